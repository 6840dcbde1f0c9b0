//! The `keyward` command: parse, dispatch, end with the documented exit code.

use clap::{Parser, Subcommand};
use keyward_admin::cli::exit::Exit;
use keyward_admin::cli::{check, explain, hash, key, manifest, serve, store, token};
use std::process::ExitCode;

/// API keys for an HTTP API behind Envoy
#[derive(Debug, Parser)]
#[command(name = "keyward", version, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "Exit codes: 0 done or allowed, 1 failed, 2 denied, 3 invalid input or usage.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    #[command(subcommand)]
    Key(key::KeyCommand),
    Manifest(manifest::ManifestArgs),
    #[command(subcommand)]
    Token(token::TokenCommand),
    #[command(subcommand)]
    Store(store::StoreCommand),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Hash(hash::HashArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Invalid } else { Exit::Ok }.into();
        }
    };
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Key(command) => key::run(command),
        Command::Manifest(args) => manifest::run(&args),
        Command::Store(command) => store::run(command),
        Command::Token(command) => token::run(command),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Hash(args) => hash::run(&args),
    }
    .into()
}
