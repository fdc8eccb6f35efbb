//! The way from a console's prompt to a shell, as data.

/// One step of a login dance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginStep {
    /// Wait until the console has shown this text since the last thing that was sent.
    Expect(String),
    /// Type this; a line end has to be part of it.
    Send(String),
    /// Whichever of these texts is shown first decides how it goes on.
    Either(Vec<(String, Vec<LoginStep>)>),
}

/// How to come to a shell on the console. Without steps the console is a shell already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// Done in order, whenever the console answers no probe.
    pub steps: Vec<LoginStep>,
}

impl Login {
    /// The console is a shell.
    pub fn none() -> Self {
        Login::default()
    }

    /// `getty`'s prompt, with a password or without one.
    pub fn getty(user: &str, password: Option<&str>) -> Self {
        use LoginStep::{Either, Expect, Send};
        let mut steps = vec![Expect("login:".into()), Send(format!("{user}\n"))];
        if let Some(password) = password {
            let again = vec![Expect("assword:".into()), Send(format!("{password}\n"))];
            let first = vec![Send(format!("{password}\n"))];
            // A name typed into a prompt that was about to be redrawn is asked for again.
            let retype = [vec![Send(format!("{user}\n"))], again].concat();
            steps.push(Either(vec![("assword:".into(), first), ("login:".into(), retype)]));
        }
        Login { steps }
    }
}
