//! What people type. One file a command; exit codes are given here and nowhere else.

mod output;
mod serve;
mod token;

use clap::{Parser, Subcommand};
use std::fmt;
use std::process::ExitCode;

/// How a command that did not succeed ends.
#[derive(Debug)]
pub enum Failure {
    /// It could not be done: exit code 1.
    Failed(String),
    /// It was refused: exit code 2.
    Denied(String),
    /// What was typed, configured or sent is wrong: exit code 3.
    Invalid(String),
}

impl Failure {
    /// Something could not be done.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::Failed(message.to_string())
    }

    /// Something is wrong with what was given.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::Invalid(message.to_string())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Denied(_) => 2,
            Self::Invalid(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(message) | Self::Denied(message) | Self::Invalid(message)) = self;
        f.write_str(message)
    }
}

#[derive(Parser)]
#[command(name = "keyward", version, about = "API keys for an HTTP API that sits behind Envoy", after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "Exit codes: 0 done or allowed, 1 failed, 2 denied, 3 invalid input or usage.";

#[derive(Subcommand)]
enum Command {
    /// Run the admin service
    Serve,
    /// Make, list and revoke tokens of the admin service (works on its database)
    #[command(subcommand)]
    Token(token::Token),
}

/// Does what was typed.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(3) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Serve => serve::run(),
        Command::Token(command) => token::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}: {failure}", output::error_word());
            ExitCode::from(failure.code())
        }
    }
}

/// Runs what waits for the network or a database.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?.block_on(work)
}
