//! The `keyward` command: parses its arguments, runs a subcommand, and ends with the exit code that docs/admin.md lists.

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use keyward_admin::cli::exit::Exit;
use keyward_admin::cli::{
    audit, check, completions, explain, hash, health, key, manifest, proxies, serve, store, token, usage, verify,
};
use std::process::ExitCode;

/// API keys for an HTTP API behind Envoy
#[derive(Debug, Parser)]
#[command(name = "keyward", version, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The variables of commands that call the admin service.
macro_rules! environment {
    () => {
        "Commands that call the admin service read KEYWARD_URL (default http://127.0.0.1:8081), KEYWARD_ADMIN_TOKEN or \
         KEYWARD_ADMIN_TOKEN_FILE, KEYWARD_CA, KEYWARD_CLIENT_CERT, KEYWARD_CLIENT_KEY and KEYWARD_PROXY."
    };
}

const AFTER: &str =
    concat!("Exit codes: 0 done or allowed, 1 failed, 2 denied, 3 invalid input or usage.\n\n", environment!());

/// Returns the whole command. The help of commands that call the service says what they read from the environment.
fn command() -> clap::Command {
    fn calls_the_service(command: clap::Command) -> clap::Command {
        command.after_help(environment!()).mut_subcommands(calls_the_service)
    }
    let callers = ["key", "proxies", "usage", "audit", "manifest"];
    callers.into_iter().fold(Cli::command(), |command, name| command.mut_subcommand(name, calls_the_service))
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Key(key::KeyArgs),
    Proxies(proxies::ProxiesArgs),
    Usage(usage::UsageArgs),
    Audit(audit::AuditArgs),
    Manifest(manifest::ManifestArgs),
    Token(token::TokenArgs),
    #[command(subcommand)]
    Store(store::StoreCommand),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Verify(verify::VerifyArgs),
    Hash(hash::HashArgs),
    Health(health::HealthArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

fn main() -> ExitCode {
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Invalid } else { Exit::Ok }.into();
        }
    };
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Key(args) => key::run(args),
        Command::Proxies(args) => proxies::run(args),
        Command::Usage(args) => usage::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Manifest(args) => manifest::run(&args),
        Command::Store(command) => store::run(command),
        Command::Token(args) => token::run(args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Hash(args) => hash::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Completions(args) => completions::complete(&args, command()),
        Command::Man(args) => completions::man(&args, command()),
    }
    .into()
}
