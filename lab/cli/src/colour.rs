//! Whether to colour: a terminal that has not asked for none (no-color.org).

use std::io::IsTerminal;

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// For what goes to stderr.
pub fn stderr() -> bool {
    std::io::stderr().is_terminal() && wanted()
}
