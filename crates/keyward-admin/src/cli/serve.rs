//! `keyward serve`: opens database and listener, runs the service, and closes them in the reverse order.

use super::error::{CommandError, block_on, end};
use super::exit::Exit;
use super::token::store_failed;
use crate::api;
use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, VARIABLES};
use crate::server::{self, Tls};
use crate::service::Service;
use crate::service::tokens::create_token;
use crate::store::Store;
use crate::store::check::Depth;
use crate::store::keys::By;
use crate::store::sqlite_file::{Lock, beside, create_private, sqlite_path};
use crate::store::tokens::Role;
use crate::web;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How long another service on the same file may take to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the end of the service may take, whatever the database and the clients do.
const MAX_STOP: Duration = Duration::from_secs(22);

/// Run the admin service
#[derive(Debug, clap::Args)]
#[command(after_help = environment())]
pub struct ServeArgs {}

/// Runs the command until a signal stops it.
pub fn run(_: &ServeArgs) -> Exit {
    end(start())
}

/// Returns the variables, for `--help`.
fn environment() -> String {
    let lines: Vec<String> = VARIABLES.iter().map(|(name, what)| format!("  {name:<26} {what}")).collect();
    format!("Environment:\n{}", lines.join("\n"))
}

fn start() -> Result<(), CommandError> {
    let config = Config::read(|name| std::env::var(name).ok()).map_err(CommandError::invalid)?;
    start_log()?;
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("KEYWARD_")) else { continue };
        if !VARIABLES.iter().any(|(known, _)| *known == name) {
            tracing::warn!("the variable {name} means nothing to keyward");
        }
    }
    tracing::info!("{config}");
    if config.is_in_clear() {
        tracing::warn!("listening beyond this machine without TLS: keys and tokens can be read on their way");
    }
    // Each waiting filter holds a connection; the usual soft limit is 1,024.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the number of open files could not be raised");
    }
    block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), CommandError> {
    let file = sqlite_path(&config.database_url).map_err(store_failed)?;
    let _lock = match &file {
        Some(file) => Some(be_alone(file).await?),
        None => None,
    };
    let store = Store::open(&config.database_url).await.map_err(store_failed)?;
    store.check(Depth::Quick).await.map_err(|error| {
        CommandError::failed(format!(
            "{error}; `keyward store check` says more, and `keyward store restore` puts a backup back"
        ))
    })?;
    let clock = Clock::system();
    let service =
        Service::new(store.clone(), config.settings.clone(), clock.clone()).await.map_err(CommandError::failed)?;
    warn_of_tokens(file.as_deref());
    first_tokens(&service, &store, file.as_deref(), &clock).await?;
    let tls = config.tls.clone().map(Tls::open).transpose().map_err(CommandError::invalid)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| CommandError::failed(format!("cannot listen on {}: {error}", config.listen)))?;
    let address = listener.local_addr().map_err(CommandError::failed)?;
    let mut tasks = service.run();
    if let Some(tls) = &tls {
        tasks.spawn(tls.clone().watch());
    }
    let app = App::new(service.clone());
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!("ready on {scheme}://{address}");
    let (told, stopping) = tokio::sync::oneshot::channel();
    let stop = async {
        wait_for_signal().await;
        tracing::info!("stopping: waiting polls are answered first");
        let _ = told.send(());
        service.close().await;
    };
    let router = api::router(app.clone()).merge(web::router(app, tls.is_some()));
    let served = async {
        server::serve(listener, tls, router, config.max_connections, stop).await.map_err(CommandError::failed)?;
        tasks.shutdown().await;
        store.close().await;
        tracing::info!("stopped");
        Ok(())
    };
    let overdue = async {
        // An error means that the service ended without a signal.
        if stopping.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(MAX_STOP).await;
    };
    tokio::select! {
        served = served => served,
        () = overdue => {
            tracing::warn!("the service did not end within {MAX_STOP:?}: what is left is given up");
            Ok(())
        }
    }
}

async fn wait_for_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_log() -> Result<(), CommandError> {
    let level: LevelFilter = match std::env::var("KEYWARD_LOG").ok().filter(|text| !text.is_empty()) {
        None => LevelFilter::INFO,
        Some(text) => text.parse().map_err(|_| {
            CommandError::invalid(format!("KEYWARD_LOG: `{text}` is none of error, warn, info, debug, trace"))
        })?,
    };
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("KEYWARD_LOG_FORMAT").ok().as_deref() {
        None | Some("") => !terminal,
        Some("json") => true,
        Some("text") => false,
        Some(other) => {
            return Err(CommandError::invalid(format!("KEYWARD_LOG_FORMAT: `{other}` is neither text nor json")));
        }
    };
    // What libraries say at debug may quote requests and statements: theirs starts at warn.
    let filter = Targets::new().with_default(LevelFilter::WARN.min(level)).with_target("keyward_admin", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if json { layer.json().boxed() } else { layer.with_ansi(terminal).with_target(false).boxed() };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    Ok(())
}

/// Without a token nobody can call. On SQLite the missing ones are made at first start; on PostgreSQL, where several
/// replicas would each make their own, they must be given.
async fn first_tokens(
    service: &Service,
    store: &Store,
    database: Option<&Path>,
    clock: &Clock,
) -> Result<(), CommandError> {
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
    // The file is made before the tokens are: ones that nobody was told could never be asked for again.
    let file = if std::io::stderr().is_terminal() {
        None
    } else {
        let path = tokens_file(database);
        let file = create_tokens_file(&path)
            .map_err(|error| CommandError::failed(format!("`{}`: {error}", path.display())))?;
        Some((path, file))
    };
    let mut lines = String::new();
    for role in missing {
        let by = By { actor: "keyward", at: clock.now() };
        let name = format!("{role} (first start)");
        let (_, secret) = create_token(store, &name, role, None, by).await.map_err(CommandError::failed)?;
        lines.push_str(&format!("KEYWARD_{}_TOKEN={}\n", role.as_str().to_uppercase(), secret.reveal()));
    }
    match file {
        None => eprint!("\nFirst start. These tokens are shown once:\n\n{lines}\n"),
        Some((path, mut file)) => {
            let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| CommandError::failed(format!("`{}`: {error}", path.display())))?;
            tracing::info!("first start: tokens were written to `{}`", path.display());
        }
    }
    service.refresh().await.map_err(CommandError::failed)
}

/// Waits until no other service works on a SQLite file: the receipts of two would not know of each other's filters.
async fn be_alone(database: &Path) -> Result<Lock, CommandError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut is_told = false;
    loop {
        if let Some(lock) = Lock::try_new(database).map_err(store_failed)? {
            return Ok(lock);
        }
        if tokio::time::Instant::now() >= deadline {
            let database = database.display();
            return Err(CommandError::failed(format!(
                "another `keyward serve` works on `{database}`; several services on one store need PostgreSQL"
            )));
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::info!("another `keyward serve` works on this database: waiting for its end");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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

fn create_tokens_file(path: &Path) -> std::io::Result<std::fs::File> {
    // A file that is there belongs to a database that is gone; its mode might be open.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_private(path)
}
