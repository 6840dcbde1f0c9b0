//! Why a command did not succeed.

use super::exit::Exit;
use super::output;
use std::fmt;

/// Why, in words for people, and how to end.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// It could not be done.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failure, message: message.to_string() }
    }

    /// It was refused.
    pub fn denied(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Denied, message: message.to_string() }
    }

    /// Something is wrong with what was typed, configured or sent.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Invalid, message: message.to_string() }
    }
}

/// Says what went wrong, if anything did.
pub(super) fn end(done: Result<(), Failure>) -> Exit {
    match done {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            eprintln!("{}: {}", output::error_word(), failure.message);
            failure.exit
        }
    }
}

/// Runs what waits for the network or a database.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?.block_on(work)
}
