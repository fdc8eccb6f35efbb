//! The exit codes, the same for every command.

/// How a command ended. The numbers are a contract with users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    /// 0: every case passed, or failed as expected, and at least one did.
    Passed,
    /// 1: something was judged and failed.
    Failed,
    /// 2: the command line, a scenario or a recipe is wrong.
    BadInput,
    /// 3: the lab itself could not do it.
    Lab,
    /// 130: interrupted by Ctrl-C or SIGTERM.
    Interrupted,
}

impl Exit {
    /// The process exit status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Passed => 0,
            Exit::Failed => 1,
            Exit::BadInput => 2,
            Exit::Lab => 3,
            Exit::Interrupted => 130,
        }
    }

    /// Of several outcomes the one that decides: 130, 2, 1, 3, 0 in this order.
    pub fn worse(self, other: Exit) -> Exit {
        fn rank(e: Exit) -> u8 {
            match e {
                Exit::Interrupted => 4,
                Exit::BadInput => 3,
                Exit::Failed => 2,
                Exit::Lab => 1,
                Exit::Passed => 0,
            }
        }
        if rank(self) >= rank(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit::*;

    #[test]
    fn the_first_that_applies_wins() {
        let order = [Interrupted, BadInput, Failed, Lab, Passed];
        for (i, &a) in order.iter().enumerate() {
            for &b in &order[i..] {
                assert_eq!(a.worse(b), a);
                assert_eq!(b.worse(a), a);
            }
        }
    }
}
