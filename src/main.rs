//! The `fanfare` program: arguments to configuration to a running node, and nothing else.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use fanfare::auth::{UserClaims, sign_user};
use fanfare::config::{Arguments, Config, ConfigError, secrets};
use fanfare::node::{self, NodeError, Started};

/// Small size classes, and memory that is given back after bursts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fans events out to WebSocket clients.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Example: fanfare serve --listen 127.0.0.1:7130 --data-dir ./fanfare-data")]
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
    /// Print a signed token for trying things out
    Token(Token),
    /// Validate a configuration and print the effective one, secrets masked
    Check(Serve),
}

#[derive(Args, Clone)]
struct Serve {
    /// Configuration file (TOML); no file is read without it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where data and secrets are kept
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Worker threads
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Serve what protocol conformance suites need, without authentication (loopback only)
    #[arg(long)]
    conformance: bool,
}

#[derive(Args)]
#[command(after_help = "Example: fanfare token user --sub 770e8400-e29b-41d4-a716-446655440000")]
struct Token {
    /// For whom: a user, or an administrator
    #[arg(value_enum)]
    kind: TokenKind,
    /// The token's subject
    #[arg(long, default_value = "user-1", value_parser = NonEmptyStringValueParser::new())]
    sub: String,
    /// Seconds until it expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    expires_in: u64,
    #[command(flatten)]
    node: Serve,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum TokenKind {
    User,
    Admin,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(arguments)) => serve(arguments),
        Some(Command::Token(token)) => print_token(&token),
        Some(Command::Check(arguments)) => check(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn load(arguments: Serve) -> Result<Config, ConfigError> {
    let Serve { config, listen, data_dir, workers, conformance } = arguments;
    let arguments = Arguments { config, listen, data_dir, workers, conformance };
    // A variable that is not text cannot be one of the node's.
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Config::load(&arguments, std::env::vars_os().filter_map(text))
}

fn serve(arguments: Serve) -> Result<(), NodeError> {
    let config = load(arguments)?;
    tracing_subscriber::fmt().with_max_level(config.log).with_writer(std::io::stderr).init();
    node::run(&config, |started| announce(&config, started))
}

fn check(arguments: Serve) -> Result<(), NodeError> {
    print!("{}", load(arguments)?.effective());
    Ok(())
}

fn print_token(token: &Token) -> Result<(), NodeError> {
    let config = load(token.node.clone())?;
    let secrets = secrets::ensure(&config.data_dir, &config)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let role = match token.kind {
        TokenKind::User => "authenticated",
        TokenKind::Admin => "project_admin",
    };
    let claims = UserClaims {
        sub: &token.sub,
        role: Some(role),
        email: None,
        exp: Some(now.saturating_add(token.expires_in)),
    };
    println!("{}", sign_user(secrets.jwt_secret.expose(), &claims)?);
    Ok(())
}

/// Where to point a client, and what to try first.
fn announce(config: &Config, started: &Started) {
    let url = format!("http://{}", started.address);
    let keys = started.secrets.path.display();
    let mut out = format!(
        "fanfare {} on {}, listening on {url}\n  workers  {}\n  data     {}\n",
        env!("CARGO_PKG_VERSION"),
        started.driver.describe(),
        config.workers,
        config.data_dir.display(),
    );
    if config.conformance {
        out.push_str("  conformance mode: no authentication, for test suites only\n");
    }
    if started.secrets.created {
        out.push_str(&format!(
            "\nNew keys are in {keys}. Define a channel and publish on it:\n\n  \
             KEY=$(sed -n 's/^api_key = \"\\(.*\\)\"/\\1/p' {keys})\n  \
             curl {url}/api/realtime/channels -H \"X-API-Key: $KEY\" -d '{{\"pattern\":\"orders\"}}'\n  \
             curl {url}/api/realtime/messages -H \"X-API-Key: $KEY\" \\\n    \
             -d '{{\"channel\":\"orders\",\"event\":\"INSERT\",\"payload\":{{\"id\":1}}}}'\n",
        ));
    }
    // Whoever started the node may not be listening to it; that is no reason to stop.
    let _ = std::io::stdout().write_all(out.as_bytes());
    let _ = std::io::stdout().flush();
}
