//! `keyward token`: tokens of the admin service. It works on the database, so it needs no token itself.

use super::error::{CommandError, block_on, end};
use super::exit::Exit;
use super::output::{self, Format};
use crate::clock::Clock;
use crate::config::{DATABASE_URL, Environment};
use crate::service::tokens::create_token;
use crate::store::keys::By;
use crate::store::tokens::{Role, TokenRecord};
use crate::store::{self, Store};
use crate::suggest::did_you_mean;
use crate::token_scope::{NodePattern, Realm, TokenScope};
use anstyle::AnsiColor;
use clap::{Args, Subcommand};
use keyward_policy::duration;
use keyward_policy::timestamp::Timestamp;
use serde_json::json;
use std::fmt::Display;
use std::str::FromStr;

/// List, create and revoke tokens of the admin service (works on its database)
///
/// Without a subcommand, the tokens are listed.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: Option<TokenCommand>,
    /// What `list` takes.
    #[command(flatten)]
    list: ListArgs,
}

/// What `keyward token list` is given.
#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Create a token; it is shown once
    Create {
        /// The name of the token, which audit entries carry
        #[arg(value_name = "NAME", required_unless_present = "name_option")]
        name: Option<String>,
        /// The name of the token, as an option
        #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
        name_option: Option<String>,
        /// admin: for people, who manage keys; edge: for proxies, which fetch them
        #[arg(long, value_parser = ["admin", "edge"])]
        role: String,
        /// The only realm whose filters may use the token (edge tokens); without it, every realm
        #[arg(long, value_name = "REALM")]
        realm: Option<String>,
        /// The nodes whose filters may use the token, such as 'gateway-*' (edge tokens); without it, all nodes
        #[arg(long, value_name = "PATTERN")]
        nodes: Option<String>,
        /// When the token expires, such as 90d; without it, never
        #[arg(long, value_name = "DURATION")]
        expires_in: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the tokens that are not revoked
    List(ListArgs),
    /// Revoke a token by name or id; running services notice within half a second
    Revoke {
        /// Name or id
        #[arg(value_name = "NAME|ID", required_unless_present = "name_option")]
        token: Option<String>,
        /// The name of the token, as an option
        #[arg(long = "name", value_name = "NAME", conflicts_with = "token")]
        name_option: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Returns the database that the environment names.
pub(super) fn database_url() -> Result<String, CommandError> {
    let mut env = Environment::new(|name| std::env::var(name).ok());
    let url = env.secret("KEYWARD_DATABASE_URL");
    Ok(env.finish(url).map_err(CommandError::invalid)?.unwrap_or_else(|| DATABASE_URL.to_owned()))
}

/// Opens the database that the environment names. It must exist: a command in the wrong folder must not make another.
pub(super) async fn open_store() -> Result<Store, CommandError> {
    Store::open_existing(&database_url()?).await.map_err(store_failed)
}

/// Returns how a command ends when the store refuses.
pub(super) fn store_failed(error: store::Error) -> CommandError {
    match error {
        store::Error::Url(_) => CommandError::invalid(error),
        error => CommandError::failed(error),
    }
}

/// Names the person who runs a command that works on the database, for the audit log.
pub(super) fn operator() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    if user.is_empty() { "command line".to_owned() } else { format!("{user} (command line)") }
}

/// Runs the command.
pub fn run(args: TokenArgs) -> Exit {
    let command = args.command.unwrap_or(TokenCommand::List(args.list));
    end(block_on(async {
        let store = open_store().await?;
        let done = act(&store, command).await;
        store.close().await;
        done
    }))
}

async fn act(store: &Store, command: TokenCommand) -> Result<(), CommandError> {
    let actor = operator();
    let by = By { actor: &actor, at: Clock::system().now() };
    match command {
        TokenCommand::Create { name, name_option, role, realm, nodes, expires_in, json } => {
            let name = name.or(name_option).unwrap_or_default();
            let role: Role = role.parse().map_err(CommandError::invalid)?;
            let lifetime = match expires_in.as_deref() {
                None | Some("never") => None,
                Some(text) => Some(
                    duration::parse(text).map_err(|error| CommandError::invalid(format!("--expires-in: {error}")))?,
                ),
            };
            let scope = TokenScope { realm: bound("--realm", realm)?, nodes: bound("--nodes", nodes)? };
            let (token, secret) =
                create_token(store, &name, (role, scope), lifetime, by).await.map_err(|error| match error {
                    crate::service::Error::Invalid(errors) => {
                        let told: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
                        CommandError::invalid(told.join("\n"))
                    }
                    crate::service::Error::NameTaken => {
                        CommandError::failed(format!("there is or was a token named `{name}`: names are not used again, so that audit entries stay clear"))
                    }
                    error => CommandError::failed(error),
                })?;
            let format = Format::choose(json);
            let written = match format {
                Format::Json => {
                    let mut view = view(&token);
                    view["token"] = json!(secret.reveal());
                    output::secret_line(&serde_json::to_string_pretty(&view).unwrap_or_default())
                }
                Format::Human => output::secret_line(secret.reveal()),
            };
            written.map_err(|error| {
                CommandError::failed(format!(
                    "{error}\n  the token {} exists and its secret is lost; `keyward token revoke {}` ends it",
                    token.id, token.id
                ))
            })?;
            if format == Format::Human {
                eprintln!(
                    "Copy it now: it is not shown again. Role {}, {}, {}.",
                    token.role,
                    bounds(&token.scope).map_or("for every filter".to_owned(), |bounds| format!("for {bounds}")),
                    ends(&token)
                );
            }
        }
        TokenCommand::List(ListArgs { json }) => {
            let tokens = store.tokens().await.map_err(CommandError::failed)?;
            match Format::choose(json) {
                Format::Json => output::json(&json!({ "tokens": tokens.iter().map(view).collect::<Vec<_>>() }))?,
                Format::Human => {
                    let row = |token: &TokenRecord| {
                        let cells = vec![
                            token.name.clone(),
                            token.role.to_string(),
                            bounds(&token.scope).unwrap_or_default(),
                            token.id.clone(),
                            token.created_at.to_string(),
                            token.expires_at.map_or("never".to_owned(), |at| at.to_string()),
                        ];
                        (cells, token.expires_at.is_some_and(|at| at <= by.at).then_some(AnsiColor::Red))
                    };
                    output::table(
                        &["name", "role", "bound to", "id", "created (UTC)", "expires (UTC)"],
                        tokens.iter().map(row).collect(),
                    )?;
                }
            }
        }
        TokenCommand::Revoke { token, name_option, json } => {
            let token = token.or(name_option).unwrap_or_default();
            let revoked = match store.revoke_token(&token, by).await {
                Err(store::Error::NotFound) => {
                    let tokens = store.tokens().await.map_err(CommandError::failed)?;
                    let hint = did_you_mean(&token, tokens.iter().map(|known| &*known.name));
                    return Err(CommandError::failed(format!("there is no token `{token}`{hint}")));
                }
                revoked => revoked.map_err(CommandError::failed)?,
            };
            match Format::choose(json) {
                Format::Json => output::json(&json!({ "id": revoked.id, "name": revoked.name, "revoked": true }))?,
                Format::Human => output::line(&format!("Revoked `{}` ({}).", revoked.name, revoked.id))?,
            }
        }
    }
    Ok(())
}

fn view(token: &TokenRecord) -> serde_json::Value {
    json!({
        "id": token.id,
        "name": token.name,
        "role": token.role.as_str(),
        "realm": token.scope.realm.as_ref().map(Realm::as_str),
        "nodes": token.scope.nodes.as_ref().map(NodePattern::as_str),
        "created_at": token.created_at.to_string(),
        "expires_at": token.expires_at.map(|at: Timestamp| at.to_string()),
    })
}

/// Reads an option that binds a token.
fn bound<T: FromStr<Err: Display>>(option: &str, text: Option<String>) -> Result<Option<T>, CommandError> {
    let parse = |text: String| text.parse().map_err(|error| CommandError::invalid(format!("{option}: {error}")));
    text.map(parse).transpose()
}

/// Returns what a token is bound to, in words. `None` means that it is bound to nothing.
fn bounds(scope: &TokenScope) -> Option<String> {
    let realm = scope.realm.as_ref().map(|realm| format!("realm {realm}"));
    let nodes = scope.nodes.as_ref().map(|nodes| format!("nodes {nodes}"));
    let bounds: Vec<String> = realm.into_iter().chain(nodes).collect();
    (!bounds.is_empty()).then(|| bounds.join(", "))
}

fn ends(token: &TokenRecord) -> String {
    token.expires_at.map_or("without expiry".to_owned(), |at| format!("valid until {at}"))
}
