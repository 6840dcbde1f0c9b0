//! What people type. One file a command; exit codes are given here and nowhere else.

mod check;
mod document;
mod exit;
mod explain;
mod hash;
mod output;
mod serve;
mod token;

use exit::Exit;

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

    fn exit(&self) -> Exit {
        match self {
            Self::Failed(_) => Exit::Failure,
            Self::Denied(_) => Exit::Denied,
            Self::Invalid(_) => Exit::Invalid,
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
    Check(check::CheckArgs),
    Explain(Box<explain::ExplainArgs>),
    Hash(hash::HashArgs),
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
            return if error.use_stderr() { Exit::Invalid } else { Exit::Ok }.into();
        }
    };
    let done = match cli.command {
        Command::Check(args) => return check::run(&args).into(),
        Command::Explain(args) => return explain::run(&args).into(),
        Command::Hash(args) => return hash::run(&args).into(),
        Command::Serve => serve::run(),
        Command::Token(command) => token::run(command),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            eprintln!("{}: {failure}", output::error_word());
            failure.exit().into()
        }
    }
}

/// Runs what waits for the network or a database.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?.block_on(work)
}
