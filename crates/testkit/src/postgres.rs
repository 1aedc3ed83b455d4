//! A real PostgreSQL server for a test, or one that a whole test process shares.
//!
//! Each server is a cluster of its own in a temporary folder, on a free loopback port, with a superuser whose password
//! is drawn. It needs PostgreSQL's programs on the machine and nothing else; without them a test fails and says how to
//! install them. As root it runs as the user `postgres`, because PostgreSQL refuses to run as root.
//!
//! A server does not outlive its test: whatever becomes of the test process, also `kill -9`, a guardian process sees
//! its end, stops the server and removes the folder. What starts and stops servers blocks the calling thread; what
//! talks to one is async.

mod certificates;
mod database;
mod programs;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use convoke_core::spec::{PostgresConnection, TlsMode};
use rand::Rng;
use tempfile::TempDir;

use certificates::Certificates;
pub use database::TestDatabase;
use programs::Programs;

/// The superuser of every server.
const USER: &str = "convoke";

/// Below the ports that systems give to outgoing connections, which could take a stopped server's port.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Another process may take a port between the look and the start.
const PORT_ATTEMPTS: usize = 20;

/// Stops a server once its standard input ends, which is when the test process lets go of the other end.
const GUARDIAN: &str =
    r#"trap '' INT TERM HUP; cat; "$1" stop --silent --wait --mode=immediate --pgdata="$2/data"; rm -rf "$2""#;

static SHARED: OnceLock<PostgresServer> = OnceLock::new();

/// A server. Dropping it stops it and removes its data.
pub struct PostgresServer {
    programs: Programs,
    port: u16,
    password: String,
    certificates: Option<Certificates>,
    guardian: Option<Child>,
    folder: TempDir,
}

/// What a server is started with.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    tls: bool,
    fsync: bool,
}

impl PostgresServer {
    /// Starts a server that forgoes `fsync`: it keeps what it has committed over its own crash, not over the machine's.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a server that waits for the disk at each commit, for measurements.
    pub fn start_with_fsync() -> Self {
        Self::start_with(Options { fsync: true, ..Options::default() })
    }

    /// Starts a server that refuses connections without TLS. Its certificate is for `localhost` alone.
    pub fn start_with_tls() -> Self {
        Self::start_with(Options { tls: true, ..Options::default() })
    }

    /// The server of this test process, started when it is first asked for. Each test makes a database of its own
    /// there, and neither stops it nor cuts the connections of others.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start)
    }

    fn start_with(options: Options) -> Self {
        let programs = Programs::find();
        let folder = tempfile::Builder::new().prefix("convoke-postgres-").tempdir().expect("a temporary folder");
        let password = format!("{:032x}", rand::rng().random::<u128>());
        programs.give(folder.path());
        let guardian = Some(guard(&programs, folder.path()));
        let mut server = Self { programs, port: 0, password, certificates: None, guardian, folder };
        server.initialize(options);
        server.listen();
        server
    }

    /// How the maintenance database is reached, by the superuser.
    pub fn connection(&self) -> PostgresConnection {
        PostgresConnection {
            host: if self.certificates.is_some() { "localhost".to_owned() } else { Ipv4Addr::LOCALHOST.to_string() },
            port: self.port,
            database: "postgres".to_owned(),
            user: USER.to_owned(),
            password: Some(self.password.clone().into()),
            tls: if self.certificates.is_some() { TlsMode::VerifyFull } else { TlsMode::Disable },
            ca_file: self.certificates.as_ref().map(|certificates| certificates.authority.clone()),
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(120),
        }
    }

    /// [`PostgresServer::connection`] as a URL, with its password.
    pub fn url(&self) -> String {
        database::url_of(&self.connection())
    }

    /// The folder of the server's Unix socket, for connections that name a folder instead of a host.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority that has signed the certificate of a server with TLS.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.as_ref().expect("a server with TLS").authority
    }

    /// An authority that has not signed it.
    pub fn other_ca_file(&self) -> &Path {
        &self.certificates.as_ref().expect("a server with TLS").stranger
    }

    /// Makes an empty database, whose name begins so, and ends in a way that no other does.
    pub async fn create_database(&self, name: &str) -> TestDatabase {
        let name = format!("{name}_{:016x}", rand::rng().random::<u64>());
        self.execute(&format!("CREATE DATABASE \"{name}\"")).await;
        TestDatabase::new(PostgresConnection { database: name, ..self.connection() })
    }

    /// Runs statements, separated by semicolons, in the maintenance database.
    pub async fn execute(&self, sql: &str) {
        self.maintenance().execute(sql).await;
    }

    /// Cuts the connections of everybody else, in all databases; tells how many there were.
    pub async fn terminate_backends(&self) -> u64 {
        self.maintenance().terminate("true").await
    }

    fn maintenance(&self) -> TestDatabase {
        TestDatabase::new(self.connection())
    }

    /// Stops the server without a checkpoint, cutting every connection, and starts it again on its port: what a crash
    /// of the server looks like.
    pub fn restart_immediately(&self) {
        self.stop();
        self.start_again();
    }

    /// Stops the server as [`PostgresServer::restart_immediately`] does; its port refuses connections from then on.
    pub fn stop(&self) {
        let mut stop = self.control("stop");
        programs::run(stop.arg("--mode=immediate"));
    }

    /// Starts a server that was stopped; returns once it takes connections.
    pub fn start_again(&self) {
        programs::run(&mut self.start_command());
    }

    /// Makes the cluster.
    fn initialize(&mut self, options: Options) {
        let password_file = self.folder.path().join("password");
        self.write(&password_file, &self.password);
        let mut initdb = self.programs.command("initdb", self.folder.path());
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]);
        initdb.args(["--username", USER, "--pwfile"]).arg(&password_file).arg("--pgdata").arg(self.data());
        programs::run(&mut initdb);
        if options.tls {
            let certificates = Certificates::make(self.folder.path());
            for file in certificates.files() {
                self.programs.give(file);
            }
            self.certificates = Some(certificates);
            let rules = "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
            self.write(&self.data().join("pg_hba.conf"), rules);
        }
        self.configure(&self.settings(options));
    }

    fn settings(&self, options: Options) -> String {
        let folder = self.folder.path().display();
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\nmax_connections = 200\n\
             max_prepared_transactions = 20\n\
             password_encryption = 'scram-sha-256'\n"
        );
        if !options.fsync {
            settings.push_str("fsync = off\nfull_page_writes = off\n");
        }
        if let Some(Certificates { certificate, key, .. }) = &self.certificates {
            let (certificate, key) = (certificate.display(), key.display());
            settings.push_str(&format!("ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'\n"));
        }
        settings
    }

    /// Appends settings; the last of a name counts.
    fn configure(&self, settings: &str) {
        let path = self.data().join("postgresql.conf");
        let before = fs::read_to_string(&path).expect("the settings that initdb writes");
        self.write(&path, &format!("{before}\n{settings}"));
    }

    /// Starts on a port that nobody has.
    fn listen(&mut self) {
        let mut complaint = String::new();
        for _ in 0..PORT_ATTEMPTS {
            self.port = free_port();
            self.configure(&format!("port = {}\n", self.port));
            match programs::try_run(&mut self.start_command()) {
                Ok(()) => return,
                Err(said) => complaint = said,
            }
        }
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        panic!("PostgreSQL does not start: {complaint}\n{log}");
    }

    fn start_command(&self) -> Command {
        let mut start = self.control("start");
        start.arg("--log").arg(self.log());
        start
    }

    fn control(&self, verb: &str) -> Command {
        let mut control = self.programs.command("pg_ctl", self.folder.path());
        control.args([verb, "--silent", "--wait", "--timeout=120", "--pgdata"]).arg(self.data());
        control
    }

    fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).expect("the server's folder can be written");
        self.programs.give(path);
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let Some(mut guardian) = self.guardian.take() else { return };
        drop(guardian.stdin.take());
        // A guardian that cannot be waited for has ended; the folder goes with its field.
        let _ = guardian.wait();
    }
}

fn guard(programs: &Programs, folder: &Path) -> Child {
    let mut shell = programs.as_user(Command::new("sh"), Path::new("/"));
    shell.args(["-c", GUARDIAN, "guardian"]).arg(programs.path("pg_ctl")).arg(folder);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Out of the reach of an interrupt that is meant for the test.
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    shell.spawn().expect("a shell can be started")
}

fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| rand::rng().random_range(PORTS)).find(is_free).expect("an endless iterator")
}

#[cfg(test)]
mod tests;
