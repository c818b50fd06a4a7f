//! A real PostgreSQL server: Debian's package, a directory and a port of its own.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::encrypted::Pair;

const HOME: &str = "/usr/lib/postgresql";
/// The user that the server runs as if the tests run as root, which it refuses.
const USER: &str = "postgres";
/// How long a server may take to start or stop; long, because tests run side by side.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// A running server, which is ended on drop. If the test failed, its log is shown.
pub(crate) struct Postgres {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
    is_encrypted: bool,
}

impl Postgres {
    /// Starts a server with an empty database.
    pub(crate) fn start() -> Self {
        let folder = own_folder();
        let data = template().join("data");
        succeed(Command::new("cp").args(["-a", path(&data), path(folder.path())]));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let mut postgres = Self { folder, port, process: None, is_encrypted: false };
        postgres.start_again();
        postgres
    }

    /// Returns the URL of the database.
    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// Returns the URL of the database for another role.
    pub(crate) fn url_of(&self, role: &str) -> String {
        self.url().replacen(&format!("//{USER}@"), &format!("//{role}@"), 1)
    }

    /// Starts the server again with this certificate, so that it encrypts.
    pub(crate) fn encrypt(&mut self, pair: &Pair) {
        self.kill();
        for (file, name) in [(&pair.cert, "server.crt"), (&pair.key, "server.key")] {
            let own = self.folder.path().join("data").join(name);
            fs::copy(file, &own).expect("it can be copied");
            succeed(Command::new("chmod").args(["600", path(&own)]));
            if geteuid().is_root() {
                succeed(Command::new("chown").args([USER, path(&own)]));
            }
        }
        self.is_encrypted = true;
        self.start_again();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements, which must succeed, and returns their rows.
    pub(crate) fn sql(&self, statements: &str) -> String {
        self.try_sql(statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// Runs statements up to the first that fails, each in a transaction of its own unless they
    /// begin one. Returns the rows, or the error with its hints; warnings are in both.
    pub(crate) fn try_sql(&self, statements: &str) -> Result<String, String> {
        let mut psql = Command::new(bin("psql"));
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", &self.url()]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = psql.spawn().expect("psql is installed");
        let mut input = process.stdin.take().expect("it is a pipe");
        // It may end before it has read all.
        let _ = input.write_all(statements.as_bytes());
        drop(input);
        let output = process.wait_with_output().expect("psql ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        match output.status.success() {
            true => Ok((text(&output.stdout) + "\n" + &text(&output.stderr)).trim().to_owned()),
            false => Err(text(&output.stderr)),
        }
    }

    /// Ends the server at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("it is a process"));
        // Its processes end with it.
        let _ = kill_process(pid.expect("it is not 0"), Signal::QUIT);
        let end = Instant::now() + PATIENCE;
        while matches!(process.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(LOOK);
        }
        let _ = process.kill();
        let _ = process.wait();
    }

    /// Starts the server again, with its data, on the same port.
    pub(crate) fn start_again(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log());
        let log = log.expect("the log can be written");
        let port = self.port.to_string();
        let mut server = as_server(bin("postgres"));
        server.args(["-D", path(&self.folder.path().join("data")), "-p", &port]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "shared_buffers=16MB",
            "max_connections=150",
        ] {
            server.args(["-c", setting]);
        }
        server.args(["-c", if self.is_encrypted { "ssl=on" } else { "ssl=off" }]);
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(server.spawn().expect("the server is installed"));
        let end = Instant::now() + PATIENCE;
        while self.try_sql("SELECT 1").is_err() {
            assert!(Instant::now() < end, "the server does not start:\n{}", self.said());
            thread::sleep(LOOK);
        }
    }

    /// Starts writers that run these commands of `pgbench`, each over a connection of its own, so
    /// many times a second together (`pace`, with the seconds that it lasts). `from` is the first value of `:n`.
    pub(crate) fn write(&self, commands: &str, writers: u32, pace: (u32, u32), from: u32) {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(commands.as_bytes()).expect("it can be written");
        let mut pgbench = Command::new(bin("pgbench"));
        pgbench.args(["-n", "-h", "127.0.0.1", "-U", USER, "-j", "2", "-f", path(file.path())]);
        for (option, value) in
            [("-p", u32::from(self.port)), ("-c", writers), ("-R", pace.0), ("-T", pace.1)]
        {
            pgbench.args([option, &value.to_string()]);
        }
        pgbench.args(["-D", &format!("n={from}"), "postgres"]);
        succeed(pgbench.stdout(Stdio::null()).stderr(Stdio::null()));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- PostgreSQL said:\n{}---", self.said());
        }
    }
}

/// Returns the URL of the database of a server, or of a proxy, at this port.
pub(crate) fn url(port: u16) -> String {
    format!("postgres://{USER}@{}:{port}/postgres", Ipv4Addr::LOCALHOST)
}

/// Returns whether nothing listens at this port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err()
}

/// Returns a folder with the data of a new server, which is made once for all tests.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let folder = TEMPLATE.get_or_init(|| {
        let folder = own_folder();
        let data = folder.path().join("data");
        let options = ["--no-sync", "-A", "trust", "-U", USER, "-E", "UTF8", "--locale", "C"];
        let mut initdb = as_server(bin("initdb"));
        succeed(initdb.args(["-D", path(&data)]).args(options).stdout(Stdio::null()));
        folder
    });
    folder.path()
}

/// Returns a new folder that the server may use.
fn own_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory for the server's data");
    if geteuid().is_root() {
        succeed(Command::new("chown").args([USER, path(folder.path())]));
    }
    folder
}

/// Returns the command of a program that must not run as root.
fn as_server(program: PathBuf) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
    // The tests' own folder may be closed to it.
    command.current_dir("/");
    command
}

/// Returns a program of the newest version that is installed.
fn bin(program: &str) -> PathBuf {
    let versions = fs::read_dir(HOME).unwrap_or_else(|_| panic!("{HOME}: tests/run installs it"));
    let paths = versions.flatten().map(|version| version.path().join("bin").join(program));
    paths.filter(|path| path.exists()).max().expect("a version is installed")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn succeed(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
