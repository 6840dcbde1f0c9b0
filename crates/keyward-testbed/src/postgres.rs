//! A real PostgreSQL on a free port, with its data under `target/testbed/`.
//!
//! It refuses to run as root: as root it is started as the user `postgres` (`KEYWARD_TEST_USER` names another). Its
//! programs are those of `PG_BIN`, of the newest `/usr/lib/postgresql/*/bin`, or of `PATH`.

use crate::{wait, workspace};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; stopped with the value.
#[derive(Debug)]
pub struct Postgres {
    programs: Programs,
    data: tempfile::TempDir,
    port: u16,
    databases: AtomicU32,
}

#[derive(Debug, Clone)]
struct Programs {
    folder: Option<PathBuf>,
    /// User and group to run as; none: as who we are.
    user: Option<(u32, u32)>,
}

impl Postgres {
    /// Starts a server. None where PostgreSQL is not installed, except under `CI`, where that is a failure.
    ///
    /// # Panics
    /// Panics when it is installed and does not start; under `CI` when it is not installed.
    pub fn start() -> Option<Self> {
        let programs = Programs::find();
        if !programs.exist() {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed (Debian's package `postgresql`)");
            eprintln!("skipped: PostgreSQL is not installed (Debian's package `postgresql`)");
            return None;
        }
        let data = workspace::scratch("postgres");
        programs.own(data.path());
        // Copying a fresh cluster takes a tenth of the time of making one.
        programs.run("cp", ["-R".as_ref(), programs.template().as_os_str(), data.path().join("data").as_os_str()]);
        let server = Self { programs, data, port: free_port(), databases: AtomicU32::new(0) };
        server.start_process();
        Some(server)
    }

    /// Starts a standby that streams from this server, asynchronously.
    ///
    /// # Panics
    /// Panics when it does not start.
    pub fn standby(&self) -> Self {
        let data = workspace::scratch("standby");
        self.programs.own(data.path());
        let (port, folder) = (self.port.to_string(), data.path().join("data"));
        let options = ["-h", "127.0.0.1", "-U", "keyward", "-p", &port, "-R", "-X", "stream", "-c", "fast", "-D"];
        self.programs.run("pg_basebackup", options.iter().map(AsRef::as_ref).chain([folder.as_os_str()]));
        let programs = self.programs.clone();
        let server = Self { programs, data, port: free_port(), databases: AtomicU32::new(0) };
        server.start_process();
        server
    }

    /// Has every commit wait until a standby has it on disk. One must be streaming.
    ///
    /// # Panics
    /// Panics when none does in the end.
    pub fn wait_for_standby(&self) {
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("postgres", "SELECT pg_reload_conf()");
        wait::until("a standby is synchronous", PATIENCE, || {
            (self.sql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1")
                .then_some(())
        });
    }

    /// Cuts a standby off its primary, so that later commits do not reach it.
    ///
    /// # Panics
    /// Panics when it still streams in the end.
    pub fn stop_streaming(&self) {
        self.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
        self.sql("postgres", "SELECT pg_reload_conf()");
        wait::until("the standby no longer streams", PATIENCE, || {
            (self.sql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver") == "0").then_some(())
        });
    }

    /// Makes a standby a primary.
    ///
    /// # Panics
    /// Panics when it does not become one.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote(true, 60)"), "t", "the standby is not promoted");
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Returns the folder of PostgreSQL's programs, where they are not on `PATH`.
    pub fn program_folder() -> Option<PathBuf> {
        Programs::find().folder
    }

    /// Starts the server that [`Postgres::stop`] or a kill ended.
    ///
    /// # Panics
    /// Panics when it does not start.
    pub fn start_process(&self) {
        let log = self.data.path().join("log");
        let mut command = self.programs.mortal("postgres");
        let port = self.port.to_string();
        command.arg("-D").arg(self.data.path().join("data")).args(["-h", "127.0.0.1", "-k", "", "-p", &port]);
        command.args(["-c", "max_connections=300", "-c", "shared_buffers=256MB"]);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("the log can be written");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        // The server ends with the thread that started it, so that a killed test leaves nothing behind: this one lives
        // as long as the process.
        std::thread::spawn(move || command.status());
        wait::until("PostgreSQL accepts connections", PATIENCE, || {
            let mut ready = self.programs.command("pg_isready");
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port]);
            ready.status().ok().filter(|status| status.success()).map(|_| ())
        });
    }

    /// Stops the server at once, as a crash would.
    pub fn stop(&self) {
        let mut command = self.programs.command("pg_ctl");
        command.args(["stop", "-s", "-w", "-m", "immediate", "-D"]).arg(self.data.path().join("data"));
        let _ = command.status();
    }

    /// Makes a new, empty database and gives its address.
    ///
    /// # Panics
    /// Panics when it cannot be made.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://keyward@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs a statement in a database, named or given by its address; what `psql` prints, without headings.
    ///
    /// # Panics
    /// Panics when it fails.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let database = database.rsplit('/').next().unwrap_or(database);
        let mut command = self.programs.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "keyward"]);
        command.args(["-p", &self.port.to_string(), "-d", database, "-c", statement]);
        let output = command.output().expect("psql can be started");
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Cuts the connections of other clients to a database, as an administrator or a failover does.
    pub fn kill_backends(&self, database: &str) {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.sql(database, kill);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Programs {
    fn find() -> Self {
        let newest = || {
            let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
            let mut versions: Vec<(u32, PathBuf)> = versions
                .filter_map(|entry| {
                    let entry = entry.ok()?;
                    let version = entry.file_name().to_str()?.parse().ok()?;
                    Some((version, entry.path().join("bin"))).filter(|(_, bin)| bin.join("postgres").exists())
                })
                .collect();
            versions.sort();
            versions.pop().map(|(_, bin)| bin)
        };
        let folder = std::env::var_os("PG_BIN").map(PathBuf::from).or_else(newest);
        let root = id(&["-u"]) == Some(0);
        let user = std::env::var("KEYWARD_TEST_USER").unwrap_or_else(|_| "postgres".to_owned());
        let user = root.then(|| id(&["-u", &user]).zip(id(&["-g", &user]))).flatten();
        Self { folder, user }
    }

    fn exist(&self) -> bool {
        self.command("postgres").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    fn command(&self, program: &str) -> Command {
        let program = self.folder.as_ref().map_or_else(|| PathBuf::from(program), |folder| folder.join(program));
        let mut command = Command::new(program);
        if let Some((user, group)) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, group);
        }
        // A folder that the other user may not enter would be complained of.
        command.current_dir("/").env("LC_ALL", "C");
        command
    }

    /// A program that is ended when the thread that starts it ends.
    fn mortal(&self, program: &str) -> Command {
        let plain = self.command(program);
        if !Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success()) {
            return plain;
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if let Some((user, group)) = self.user {
            command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
        }
        command.arg(plain.get_program()).current_dir("/").env("LC_ALL", "C");
        command
    }

    /// A fresh cluster, made once for this version and user.
    fn template(&self) -> PathBuf {
        let version =
            self.command("postgres").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_alphanumeric).collect();
        let base = workspace::target().join("testbed");
        let template = base.join(format!("{version}-{}", self.user.map_or(0, |(user, _)| user)));
        if template.exists() {
            return template.join("data");
        }
        let making = workspace::scratch("initdb");
        self.own(making.path());
        let options = ["-U", "keyward", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        let data = making.path().join("data");
        self.run("initdb", options.iter().map(AsRef::as_ref).chain([data.as_os_str()]));
        // Whoever is first names it; another test that made one too uses the named one.
        let _ = std::fs::rename(making.keep(), &template);
        template.join("data")
    }

    fn run<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a std::ffi::OsStr>) {
        let mut command = if program == "cp" { self.system("cp") } else { self.command(program) };
        let output = command.args(args).output().expect("a program can be started");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A program that is not PostgreSQL's, as the same user.
    fn system(&self, program: &str) -> Command {
        Self { folder: None, user: self.user }.command(program)
    }

    fn own(&self, folder: &Path) {
        if let Some((user, group)) = self.user {
            std::os::unix::fs::chown(folder, Some(user), Some(group)).expect("root may give a folder away");
        }
    }
}

fn id(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// A port that nothing listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
