//! The exit codes of commands.

use std::process::ExitCode;

/// The exit codes of every `keyward` command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or the request is allowed.
    Ok,
    /// 1: something failed: a file, the network, the service.
    Failure,
    /// 2: the request, or the caller, is denied.
    Denied,
    /// 3: invalid input or usage.
    Invalid,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Denied => 2,
            Exit::Invalid => 3,
        })
    }
}
