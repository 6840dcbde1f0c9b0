//! The first start of the service: makes the first tokens, and says where to use them.

use super::error::CommandError;
use crate::clock::Clock;
use crate::config::Config;
use crate::service::Service;
use crate::service::tokens::create_token;
use crate::store::Store;
use crate::store::keys::By;
use crate::store::sqlite_file::{beside, create_private};
use crate::store::tokens::Role;
use crate::token_scope::TokenScope;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Where the tokens of the first start go.
enum Place {
    /// They are shown, and kept nowhere.
    Terminal,
    /// To one file of shell variables beside the database.
    Beside(PathBuf, File),
    /// To one file for each role, which Envoy and the command read as it is: the new file, and the name that it gets.
    Folder(Vec<(File, PathBuf, PathBuf)>),
}

/// Makes the tokens that are missing, and says where the page is and how to sign in. Without a token nobody can call. On
/// SQLite the missing ones are made at first start; on PostgreSQL, where several replicas would each make their own, they
/// must be given.
///
/// # Errors
/// On PostgreSQL when a token is missing; when a file or the store cannot be written.
pub(super) async fn make_tokens(
    service: &Service,
    store: &Store,
    config: &Config,
    database: Option<&Path>,
    page: &str,
) -> Result<(), CommandError> {
    warn_of_tokens(database);
    let missing = missing(service, store).await?;
    if missing.is_empty() {
        return Ok(());
    }
    if store.is_shared() {
        let variables: Vec<String> =
            missing.iter().map(|role| format!("KEYWARD_{}_TOKEN", role.as_str().to_uppercase())).collect();
        return Err(CommandError::invalid(format!(
            "on PostgreSQL tokens must be given: set {} (or …_FILE), or make them with `keyward token create`",
            variables.join(" and ")
        )));
    }
    // The files are made before the tokens are: ones that nobody was told could never be asked for again.
    let place = Place::choose(config.first_tokens.as_deref(), database, &missing)?;
    let mut tokens = Vec::new();
    let clock = Clock::system();
    for role in missing {
        let by = By { actor: "keyward", at: clock.now() };
        let name = format!("{role} (first start)");
        let (_, secret) =
            create_token(store, &name, (role, TokenScope::default()), None, by).await.map_err(CommandError::failed)?;
        tokens.push((role, secret.reveal().to_owned()));
    }
    place.keep(&tokens, page)?;
    service.refresh().await.map_err(CommandError::failed)
}

/// Returns the roles that no token ever had. Says so where tokens were there and none is left: somebody meant it.
async fn missing(service: &Service, store: &Store) -> Result<Vec<Role>, CommandError> {
    let mut missing = Vec::new();
    for role in [Role::Admin, Role::Edge] {
        if service.tokens.has(role) {
            continue;
        }
        if store.ever_had_token(role).await.map_err(CommandError::failed)? {
            tracing::warn!(
                "there is no valid token of the role {role}: `keyward token create --role {role} NAME` makes one"
            );
        } else {
            missing.push(role);
        }
    }
    Ok(missing)
}

impl Place {
    fn choose(folder: Option<&Path>, database: Option<&Path>, missing: &[Role]) -> Result<Self, CommandError> {
        let fresh = |path: &Path| create_fresh(path).map_err(|error| failed(path, &error));
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
            let files = missing.iter().map(|role| {
                let path = folder.join(format!("{role}-token"));
                let new = beside(&path, ".new");
                Ok((fresh(&new)?, new, path))
            });
            return Ok(Self::Folder(files.collect::<Result<_, CommandError>>()?));
        }
        if io::stderr().is_terminal() {
            return Ok(Self::Terminal);
        }
        let path = tokens_file(database);
        let file = fresh(&path)?;
        Ok(Self::Beside(path, file))
    }

    /// Hands the tokens over, and says how to begin.
    fn keep(self, tokens: &[(Role, String)], page: &str) -> Result<(), CommandError> {
        match self {
            Self::Terminal => eprint!("{}", welcome(tokens, page)),
            Self::Beside(path, mut file) => {
                let written = file.write_all(lines(tokens).as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|error| failed(&path, &error))?;
                tracing::info!(
                    "first start: open {page} and sign in with the admin token; the tokens are in `{}`",
                    path.display()
                );
            }
            Self::Folder(files) => {
                for ((mut file, new, path), (role, token)) in files.into_iter().zip(tokens) {
                    // No line break: Envoy sends the file as it is. A file that is replaced is read again.
                    let written = file.write_all(token.as_bytes()).and_then(|()| file.sync_all());
                    written.and_then(|()| std::fs::rename(&new, &path)).map_err(|error| failed(&path, &error))?;
                    let path = path.display();
                    match role {
                        Role::Admin => {
                            tracing::info!("first start: open {page} and sign in with the admin token in `{path}`");
                        }
                        Role::Edge => tracing::info!("first start: the edge token, for proxies, is in `{path}`"),
                    }
                }
            }
        }
        Ok(())
    }
}

fn lines(tokens: &[(Role, String)]) -> String {
    tokens.iter().map(|(role, token)| format!("KEYWARD_{}_TOKEN={token}\n", role.as_str().to_uppercase())).collect()
}

/// Returns what the terminal shows at the first start.
fn welcome(tokens: &[(Role, String)], page: &str) -> String {
    let mut text = "\nKeyward's first start.\n".to_owned();
    if tokens.iter().any(|(role, _)| *role == Role::Admin) {
        text.push_str(&format!("\nOpen {page} and sign in with the admin token.\n"));
    }
    text.push_str("Proxies show the edge token. Copy the tokens now: they are not shown again.\n\n");
    text.push_str(&lines(tokens));
    text.push('\n');
    text
}

/// Returns the file of the first tokens, beside the database: `keyward.db.tokens`.
fn tokens_file(database: Option<&Path>) -> PathBuf {
    beside(database.unwrap_or(Path::new("keyward")), ".tokens")
}

/// Says at every start that the tokens of the first one are still there to be read.
fn warn_of_tokens(database: Option<&Path>) {
    let path = tokens_file(database);
    if path.exists() {
        tracing::warn!("`{}` holds tokens in clear: keep them in a safe place, and remove the file", path.display());
    }
}

fn create_fresh(path: &Path) -> io::Result<File> {
    // A file that is there belongs to a database that is gone; its mode might be open.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_private(path)
}

fn failed(path: &Path, error: &io::Error) -> CommandError {
    CommandError::failed(format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_say_where_to_go_and_with_what() {
        let both = [(Role::Admin, "tok-a".to_owned()), (Role::Edge, "tok-e".to_owned())];
        let text = welcome(&both, "http://127.0.0.1:8081/");
        assert!(text.contains("Open http://127.0.0.1:8081/ and sign in with the admin token."), "{text}");
        assert!(text.contains("\nKEYWARD_ADMIN_TOKEN=tok-a\nKEYWARD_EDGE_TOKEN=tok-e\n"), "{text}");
        // The admin token was given from outside: it is not in this list.
        assert!(!welcome(&both[1..], "http://127.0.0.1:8081/").contains("sign in"));
    }
}
