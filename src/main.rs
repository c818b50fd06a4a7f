//! The `fanfare` program: loads the configuration from the arguments and runs a node.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use fanfare::auth::SignError;
use fanfare::config::listen::Listen;
use fanfare::config::secrets::Origin;
use fanfare::config::{Arguments, Config, ConfigError, Place};
use fanfare::metrics::heap::Counted;
use fanfare::node::{self, NodeError, PassedSockets, Places, Started};

// In a folder of this program's name, apart from the modules of the library.
#[path = "main/cluster.rs"]
mod cluster;
#[path = "main/keys.rs"]
mod keys;
#[path = "main/postgres.rs"]
mod postgres;
#[path = "main/token.rs"]
mod token;

/// Configuration keys whose values are secret.
const SECRETS: [&str; 8] = [
    "auth.api_key",
    "auth.anon_key",
    "auth.jwt_secret",
    "webhooks.secret",
    "m2.api_key",
    "cluster.password",
    "cluster.token",
    "postgres.url",
];

/// How long a start waits until its announcement is printed.
const PRINT_PATIENCE: Duration = Duration::from_secs(1);

/// mimalloc has small size classes, and gives memory back after bursts. Allocations are counted,
/// because clients may make the node hold only `memory.client_bytes`.
#[global_allocator]
static ALLOCATOR: Counted<mimalloc::MiMalloc> = Counted(mimalloc::MiMalloc);

/// Fans events out to WebSocket and SSE clients.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Nothing needs to be configured: without a command and arguments, fanfare
serves on 127.0.0.1:7130 and keeps its data and keys in ./fanfare-data.
`fanfare check` prints all settings and where they come from: the file, the
environment (FANFARE_LISTEN and so on, see the README) or the command line.

Example:
  fanfare serve --listen 127.0.0.1:7130 --data-dir ./fanfare-data

Exit codes: 0 good, 2 wrong usage or configuration, 1 any other failure")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node (what happens without a command)
    Serve(Serve),
    /// Print the API key and the anon key, as assignments for a shell
    Keys(keys::Keys),
    /// Print a signed token for trying things out
    Token(token::Token),
    /// Validate a configuration and print the effective one, secrets masked
    Check(Check),
    /// Show the cluster that the settings name
    Cluster(cluster::Cluster),
    /// Prepare the database whose rows are events
    Postgres(postgres::Postgres),
}

#[derive(Args)]
#[command(after_help = "Example:
  fanfare serve --config fanfare.toml --listen 0.0.0.0:7130

Exit codes: 0 stopped as told, 2 wrong usage or configuration, 130 or 143 a
second SIGINT or SIGTERM ended it at once, 1 any other failure")]
struct Serve {
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
#[command(after_help = "Takes what serve takes, names every mistake with key, file and line, and
changes nothing. What it prints is a configuration file itself.

Example:
  fanfare check --config fanfare.toml

Exit codes: 0 no mistake was found, 2 wrong usage or configuration,
1 any other failure")]
struct Check {
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct Settings {
    #[command(flatten)]
    place: Whereabouts,
    /// IP address and port [default: 127.0.0.1:7130]
    #[arg(long, value_name = "ADDR", allow_hyphen_values = true)]
    listen: Option<OsString>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    workers: Option<OsString>,
    /// Serve test suites, without authentication, on loopback
    #[arg(long)]
    conformance: bool,
}

/// The options by which a command finds its node.
#[derive(Args)]
struct Whereabouts {
    /// Configuration file (TOML) [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data and keys [default: ./fanfare-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<OsString>,
}

impl From<Settings> for Arguments {
    fn from(settings: Settings) -> Self {
        let Settings { place: Whereabouts { config, data_dir }, listen, workers, conformance } =
            settings;
        Self { config, listen, data_dir, workers, conformance }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Token(#[from] SignError),
    /// What was printed says why.
    #[error("")]
    Unhealthy,
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Node(error.into())
    }
}

fn main() -> ExitCode {
    node::keep_memory_small();
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(serve_with)) => serve(serve_with),
        Some(Command::Keys(keys)) => keys::print(keys),
        Some(Command::Token(token)) => token::print(token),
        Some(Command::Check(check_with)) => check(check_with),
        Some(Command::Cluster(cluster)) => cluster::run(cluster),
        Some(Command::Postgres(postgres)) => postgres::run(postgres),
    };
    let Err(failure) = done else { return ExitCode::SUCCESS };
    let lines = failure.to_string();
    node::log::say(&lines.lines().map(|line| format!("fanfare: {line}\n")).collect::<String>());
    node::log::flush();
    match failure {
        Failure::Node(error) => ExitCode::from(error.exit_code()),
        Failure::Token(_) => ExitCode::from(2),
        Failure::Unhealthy | Failure::Output(_) => ExitCode::FAILURE,
    }
}

fn load(settings: Settings) -> Result<Config, ConfigError> {
    read(&settings.into())
}

fn read(arguments: &Arguments) -> Result<Config, ConfigError> {
    Config::load(arguments, std::env::vars_os())
}

fn serve(Serve { settings }: Serve) -> Result<(), Failure> {
    // As long as there are no other threads.
    let passed = PassedSockets::take()?;
    let arguments = Arguments::from(settings);
    let mut config = read(&arguments)?;
    config.take_passed(passed.places()?)?;
    let config = Arc::new(config);
    // All mistakes are reported at once; the start itself would stop at the first.
    node::check(&config)?;
    let _flush = node::log::start(&config).map_err(NodeError::from)?;
    log_settings(&config);
    node::run(&config, passed, move || read(&arguments), |started| announce(&config, started))?;
    Ok(())
}

fn check(Check { settings }: Check) -> Result<(), Failure> {
    let config = load(settings)?;
    node::check(&config)?;
    print(&config.effective())
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Logs the settings and warnings about them.
fn log_settings(config: &Config) {
    tracing::debug!(
        version = env!("CARGO_PKG_VERSION"),
        listen = ?config.places(),
        workers = config.workers,
        data_dir = %config.data_dir.display(),
        "starting"
    );
    let cores = thread::available_parallelism().map_or(config.workers, usize::from);
    if config.workers > cores {
        tracing::warn!(workers = config.workers, cores, "there are more workers than cores");
    }
    for key in SECRETS {
        let Place::File { path, line } = config.place(key) else { continue };
        let is_open = path.metadata().is_ok_and(|found| found.permissions().mode() & 0o044 != 0);
        if is_open {
            let file = path.display();
            tracing::warn!(key, %file, line, "this file holds a secret and others may read it");
        }
    }
}

/// Prints where the node serves, where its keys are, and what to try first.
fn announce(config: &Config, started: &Started) {
    let auth = &config.auth;
    let configured = [&auth.api_key, &auth.anon_key, &auth.jwt_secret].map(Option::is_some);
    let is_derived = started.secrets.origins.contains(&Origin::Derived);
    let file = started.secrets.path.display();
    let keys = match (configured, started.secrets.created) {
        ([true, true, true], _) => "as configured".to_owned(),
        _ if is_derived => {
            "of the cluster, derived from auth.jwt_secret unless configured".to_owned()
        }
        ([false, false, false], true) => format!("{file}, made just now"),
        ([false, false, false], false) => file.to_string(),
        _ => format!("{file}, and as configured"),
    };
    let mut out = format!(
        "fanfare {} on {}, listening on {}\n  workers  {}\n  data     {}\n  keys     {keys}\n",
        env!("CARGO_PKG_VERSION"),
        started.driver.describe(),
        urls(config, &started.places.everybody).join(", "),
        config.workers,
        config.data_dir.display(),
    );
    if !started.places.admin.is_empty() {
        let admin = urls(config, &started.places.admin).join(", ");
        out.push_str(&format!("  admin    {admin}\n"));
    }
    for leniency in config.leniencies() {
        out.push_str(&format!("  lenient  {leniency}\n"));
    }
    if !config.conformance && started.secrets.created && configured == [false, false, false] {
        let Places { everybody, admin } = &started.places;
        // What is tried first is to define a channel.
        let first = admin.iter().chain(everybody).find_map(|place| match place {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        });
        let steps = first.map(|address| first_steps(config, address));
        out.push_str(&steps.unwrap_or_default());
    }
    print_if_read(out);
}

/// Prints a text behind what was logged before. Standard output may be closed, or a full pipe
/// without a reader; neither is a reason to stop or to wait for long.
fn print_if_read(text: String) {
    node::log::flush();
    let (printed, is_printed) = mpsc::channel();
    let printing = thread::Builder::new().name("announce".to_owned()).spawn(move || {
        let _ = print(&text);
        let _ = printed.send(());
    });
    if printing.is_ok() {
        let _ = is_printed.recv_timeout(PRINT_PATIENCE);
    }
}

/// Returns where clients find a node that listens on these places.
fn urls(config: &Config, places: &[Listen]) -> Vec<String> {
    let url = |place: &Listen| match place {
        Listen::Tcp(address) => format!("{}{address}", scheme(config)),
        Listen::Unix(_) => place.to_string(),
    };
    places.iter().map(url).collect()
}

fn scheme(config: &Config) -> &'static str {
    if config.has_tls() { "https://" } else { "http://" }
}

/// Returns commands to paste into a shell, one after the other, in any directory.
fn first_steps(config: &Config, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("{}{}", scheme(config), SocketAddr::new(ip, address.port()));
    let data_dir = &config.data_dir;
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let (program, data_dir) = (shell_word(&program()), shell_word(&data_dir.to_string_lossy()));
    format!(
        "
Try it: paste these lines in order, here if the node runs in the background, otherwise in a second terminal.
Take the keys, define a channel, and listen to it:

  eval \"$({program} keys --data-dir {data_dir})\"
  curl -sS {url}/api/realtime/channels -H \"X-API-Key: $API_KEY\" -d '{{\"pattern\":\"orders\"}}'
  curl -sSN \"{url}/api/realtime/events?channel=orders&token=$ANON_KEY\" &
  STREAM=$!

Publish, and see it arrive (`kill $STREAM` ends the listener):

  curl -sS {url}/api/realtime/messages -H \"X-API-Key: $API_KEY\" \
         -d '{{\"channel\":\"orders\",\"event\":\"INSERT\",\"payload\":{{\"orderId\":\"123\"}}}}'

Clients that also publish use Socket.IO (in Node.js: `npm install --no-save --prefix . socket.io-client@4`):

  node -e \"const s = require('socket.io-client')('{url}', {{ auth: {{ token: '$ANON_KEY' }} }}); \
         s.on('connect', () => s.emit('REALTIME_SUBSCRIBE', {{ channel: 'orders' }}, console.log)); \
         s.on('INSERT', console.log)\" &
"
    )
}

/// Returns how a shell finds this program: by its name alone if it was started so, otherwise by its
/// path.
fn program() -> String {
    let started_as = std::env::args_os().next().unwrap_or_default();
    let is_path = started_as.as_encoded_bytes().contains(&b'/');
    let path = if is_path { std::env::current_exe().ok() } else { None };
    path.map_or(started_as, Into::into).to_string_lossy().into_owned()
}

/// Returns a text as one word of a shell's command line.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
