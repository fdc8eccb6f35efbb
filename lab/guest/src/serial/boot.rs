//! From whatever is on the console to a running agent.

use super::{Agent, Encoding, LoginStep, SerialError, SerialShell, Sum};
use crate::{BoxFuture, Deadline};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::time::Duration;
use tokio::io::AsyncWrite;

/// The agent's text.
pub const AGENT: &str = include_str!("agent.sh");
/// Where in dom0 the agent's text may lie already; typing it costs a round trip for every few dozen bytes.
pub const AGENT_PATH: &str = "/xenlab/agent";
/// Characters of a piece of the agent typed at once; a multiple of four, so that no octal escape is torn. What is typed before an answer must stay within [`KEPT`].
const PIECE: usize = 64;
/// Bytes that Xen keeps of what is typed until dom0 reads it (`SERIAL_RX_SIZE`, xen/drivers/char/console.c); the rest is dropped.
const KEPT: usize = 128;
/// How long a prompt or an answer is waited for at first; each further try waits twice as long.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The longest that is waited before something is typed again.
pub(super) const PATIENCE_MOST: Duration = Duration::from_secs(16);

impl<W: AsyncWrite + Send + Unpin> SerialShell<W> {
    /// Finds a shell, types the agent to it and starts it.
    pub(super) async fn boot(&mut self, deadline: &Deadline) -> Result<Agent, SerialError> {
        let mut patience = PATIENCE;
        let mut tries = 0;
        loop {
            tries += 1;
            if let Some(agent) = self.attempt(tries, &deadline.within(patience), deadline).await? {
                return Ok(agent);
            }
            if deadline.expired() {
                break;
            }
            patience = (patience * 2).min(PATIENCE_MOST);
        }
        Err(SerialError::NoAnswer { limit: deadline.limit(), tries, last: self.link.last_shown() })
    }

    async fn attempt(
        &mut self,
        tries: u32,
        patience: &Deadline,
        deadline: &Deadline,
    ) -> Result<Option<Agent>, SerialError> {
        self.link.send(wake(tries), deadline).await?;
        // Ours may still be there, from before a loss: it answers its own greeting.
        if self.next > 0 {
            self.link.send("1:h\n", deadline).await?;
            if let Some(agent) = self.greeting(&deadline.within(PATIENCE)).await? {
                return Ok(Some(agent));
            }
        }
        if !self.login.steps.is_empty() {
            let steps = self.login.steps.clone();
            // Without a prompt somebody is logged in already, or nobody listens yet: the probe below tells.
            self.dance(&steps, patience).await?;
        }
        let mark = format!("{}.", &crate::nonce()[..4]);
        let probe = |m: &str| format!("echo 'q''{mark}{m}.'\n");
        self.link.send(&probe("0"), deadline).await?;
        if self.link.shown(&[&format!("q{mark}0.")], &patience.afresh(patience.limit())).await?.is_none() {
            return Ok(None);
        }
        // From here on lines are read by a plain loop: no prompt, no line editing, no terminal echo where `stty` is to be had.
        // It says when it reads: what is typed before that the shell that starts it may have read ahead, and keeps.
        let loop_ = format!("sh -c \"echo 'q''{mark}s.';while read -r l;do eval \\\"\\$l\\\";done\"\n");
        self.link.send(&loop_, deadline).await?;
        if self.link.shown(&[&format!("q{mark}s.")], &patience.afresh(PATIENCE_MOST)).await?.is_none() {
            return Ok(None);
        }
        let quiet = "stty -echo 2>/dev/null||busybox stty -echo 2>/dev/null;A=";
        if !self.line(quiet, &format!("echo 'q''{mark}1.'"), &format!("q{mark}1."), deadline).await? {
            return Ok(None);
        }
        let decodes = self.decoder(&mark, deadline).await?;
        let Some(decodes) = decodes else { return Ok(None) };
        let there = format!("S=;[ -r {AGENT_PATH} ]&&S=$(cat {AGENT_PATH})");
        let whole = format!("q{mark}{}.", AGENT.trim_end().len());
        let length = format!("echo 'q''{mark}'${{#S}}.");
        let lies_there =
            self.line_or(&there, &length, &[&whole, &format!("q{mark}0.")], deadline).await? == Some(0);
        let text = if lies_there { String::new() } else { encode(AGENT.trim_end(), decodes) };
        let (mut at, mut failures) = (0, 0);
        while at < text.len() {
            let end = (at + PIECE).min(text.len());
            let piece = &text[at..end];
            let store = format!("[ ${{#A}} = {at} ]&&A=$A'{piece}'");
            let expected = format!("q{mark}{end}.");
            if self.line(&store, &format!("echo 'q''{mark}'${{#A}}."), &expected, deadline).await? {
                at = end;
                continue;
            }
            // A piece was damaged on its way: begin again, with an empty text.
            failures += 1;
            at = 0;
            if failures > 3
                || !self
                    .line("A=", &format!("echo 'q''{mark}'${{#A}}."), &format!("q{mark}0."), deadline)
                    .await?
            {
                return Ok(None);
            }
        }
        let load = if decodes { "S=$(echo $A|$D)" } else { "S=$(printf \"$A\")" };
        if !lies_there && !self.line(load, &length, &whole, deadline).await? {
            return Ok(None);
        }
        self.link.send(&format!("T={};eval \"$S\"\n", self.tag), deadline).await?;
        // From now on an agent may be there, whether its greeting arrives or not.
        self.next = self.next.max(1);
        self.greeting(&deadline.within(PATIENCE_MOST)).await
    }

    /// What decodes base64 in dom0, put into `D`: whether anything does; `None` without an answer.
    async fn decoder(&mut self, mark: &str, deadline: &Deadline) -> Result<Option<bool>, SerialError> {
        // One line for each, since a longer one would not fit where Xen keeps what is typed.
        let finds = [
            ("D=;[ \"$(echo YQ==|base64 -d 2>&1)\" = a ]&&D='base64 -d'", "d"),
            ("[ \"$D\" ]||{ [ \"$(echo YQ==|busybox base64 -d 2>&1)\" = a ]&&D='busybox base64 -d';}", "b"),
        ];
        for (find, m) in finds {
            if !self.line(find, &format!("echo 'q''{mark}{m}.'"), &format!("q{mark}{m}."), deadline).await? {
                return Ok(None);
            }
        }
        let (yes, no) = (format!("q{mark}y."), format!("q{mark}n."));
        self.link.send(&format!("[ \"$D\" ]&&echo 'q''{mark}y.'||echo 'q''{mark}n.'\n"), deadline).await?;
        let seen = self.link.shown(&[&yes, &no], &deadline.within(PATIENCE_MOST)).await?;
        Ok(seen.map(|which| which == 0))
    }

    /// Types one line and what makes it answer; repeats it until it answers. `do_it` must be harmless when repeated.
    async fn line(
        &mut self,
        do_it: &str,
        answer: &str,
        expected: &str,
        deadline: &Deadline,
    ) -> Result<bool, SerialError> {
        Ok(self.line_or(do_it, answer, &[expected], deadline).await?.is_some())
    }

    /// The same with several answers; which of them came.
    async fn line_or(
        &mut self,
        do_it: &str,
        answer: &str,
        expected: &[&str],
        deadline: &Deadline,
    ) -> Result<Option<usize>, SerialError> {
        let mut patience = PATIENCE;
        let typed = format!("{do_it}\n{answer}\n");
        debug_assert!(typed.len() <= KEPT, "{} bytes are typed before an answer: {typed}", typed.len());
        for _ in 0..4 {
            self.link.send(&typed, deadline).await?;
            if let Some(which) = self.link.shown(expected, &deadline.within(patience)).await? {
                return Ok(Some(which));
            }
            if deadline.expired() {
                break;
            }
            patience *= 2;
        }
        Ok(None)
    }

    /// Waits for what the agent says when it starts.
    async fn greeting(&mut self, deadline: &Deadline) -> Result<Option<Agent>, SerialError> {
        while let Some(body) = self.link.body(deadline).await? {
            let fields: Vec<&str> = body.split(':').collect();
            let ["H", encoding, sum, decoder] = fields[..] else { continue };
            let encoding = match encoding {
                "b64" => Encoding::Base64,
                "hex" => Encoding::Hex,
                _ => {
                    return Err(SerialError::Lacks(
                        "no folder to write in among /run, /dev/shm, /tmp and /var/tmp, or no mkfifo".into(),
                    ));
                }
            };
            let sum = match sum {
                "cksum" => Sum::Cksum,
                "sha256" => Sum::Sha256,
                _ => Sum::None,
            };
            return Ok(Some(Agent { encoding, sum, decodes: !decoder.is_empty() }));
        }
        Ok(None)
    }

    /// Goes through the steps of a login; false when one of them had no answer.
    fn dance<'a>(
        &'a mut self,
        steps: &'a [LoginStep],
        deadline: &'a Deadline,
    ) -> BoxFuture<'a, Result<bool, SerialError>> {
        Box::pin(async move {
            for step in steps {
                match step {
                    LoginStep::Expect(text) => {
                        if self.link.shown(&[text], deadline).await?.is_none() {
                            return Ok(false);
                        }
                    }
                    LoginStep::Send(text) => self.link.send(text, &deadline.afresh(PATIENCE_MOST)).await?,
                    LoginStep::Either(ways) => {
                        let texts: Vec<&str> = ways.iter().map(|(t, _)| t.as_str()).collect();
                        let Some(which) = self.link.shown(&texts, deadline).await? else { return Ok(false) };
                        if !self.dance(&ways[which].1, deadline).await? {
                            return Ok(false);
                        }
                    }
                }
            }
            Ok(true)
        })
    }
}

/// What a try begins with. A line that lost bytes can leave a shell inside a quote, where it takes all that follows for text:
/// later tries close what may be open, in a way that is but a comment where nothing is; the last ones also interrupt what is in the
/// foreground and end what else may be half said, at worst with the shell itself, which then comes again.
fn wake(tries: u32) -> &'static str {
    match tries {
        1 => "\n",
        2 | 3 => "\n#\"\n#'\n",
        _ => "\x03\n#\"\n#'\n)\n#\"\n#'\n",
    }
}

/// Text as it is typed: base64, or octal escapes for `printf`.
pub(super) fn encode(text: &str, base64: bool) -> String {
    if base64 { BASE64.encode(text) } else { text.bytes().map(|b| format!("\\{b:03o}")).collect() }
}
