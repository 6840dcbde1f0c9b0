//! Why a command failed, and how it ends.

use super::exit::Exit;
use super::output::{self, OutputError};
use std::fmt;

/// The reason in words, and the exit code that fits.
#[derive(Debug)]
pub struct CommandError {
    /// How the command ends.
    pub exit: Exit,
    /// What went wrong, where, and how to mend it.
    pub message: String,
}

impl CommandError {
    /// Something failed: a file, the network, the service.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failure, message: message.to_string() }
    }

    /// The caller is not allowed to do this.
    pub fn denied(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Denied, message: message.to_string() }
    }

    /// An argument, a variable or a file is not valid.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Invalid, message: message.to_string() }
    }
}

impl From<OutputError> for CommandError {
    fn from(error: OutputError) -> Self {
        Self::failed(error)
    }
}

/// Ends a command: prints the error, if there is one.
pub(super) fn end(done: Result<(), CommandError>) -> Exit {
    end_with(done.map(|()| Exit::Ok))
}

/// Ends a command that has several ways to succeed: prints the error, if there is one.
pub(super) fn end_with(done: Result<Exit, CommandError>) -> Exit {
    done.unwrap_or_else(|error| {
        eprintln!("{}: {}", output::error_word(), error.message);
        error.exit
    })
}

/// Runs work that waits for the network or a database.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandError::failed)?.block_on(work)
}
