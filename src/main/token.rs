//! `fanfare token`: signed tokens for trying things out.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use fanfare::auth::{Audience, UserClaims, sign_user};
use fanfare::config::{Config, secrets};
use fanfare::interface::forge::access::{NewPlace, NewProof, audience, sign_proof};
use fanfare::interface::m2::access::{NewToken, sign_token};
use fanfare::node::NodeError;
use serde_json::{Map, Value};

use super::{Failure, Settings, Whereabouts, load};

#[derive(Args)]
#[command(arg_required_else_help = false)]
#[command(after_help = help("TOKEN=$(fanfare token user --sub alice)"))]
pub(super) struct Token {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// For a user of InsForge Realtime
    #[command(after_help = help("TOKEN=$(fanfare token user --sub alice --claim team=red)"))]
    User(User),
    /// For an administrator
    #[command(after_help = help("TOKEN=$(fanfare token admin)"))]
    Admin(Identity),
    /// For a subscriber of Forge Realtime: its place
    #[command(override_usage = place_usage("forge-context"))]
    #[command(after_help = help(
        "TOKEN=$(fanfare token forge-context --installation inst-1 \\
    --module my-panel --extension '{\"issue\":{\"id\":\"10001\"}}')"
    ))]
    ForgeContext(Context),
    /// For a publisher of Forge Realtime: where it was invoked
    #[command(override_usage = place_usage("forge-invocation"))]
    #[command(after_help = help(
        "ID=$(fanfare token forge-invocation --installation inst-1 \\
    --module my-panel --extension '{\"issue\":{\"id\":\"10001\"}}')"
    ))]
    ForgeInvocation(Invocation),
    /// For the back end of a Forge installation
    #[command(after_help = help("TOKEN=$(fanfare token forge-service --installation inst-1)"))]
    ForgeService(Service),
    /// For a user of M2 Realtime
    #[command(after_help = help("TOKEN=$(fanfare token m2 --user alice --organization org-1)"))]
    M2(M2User),
    /// For a back end that writes documents of M2 Realtime
    #[command(after_help = help("TOKEN=$(fanfare token m2-writer --organization org-1)"))]
    M2Writer(M2Writer),
}

#[derive(Args)]
struct Identity {
    /// The token's subject
    #[arg(long, default_value = "user-1", value_parser = NonEmptyStringValueParser::new())]
    sub: String,
    /// Seconds until it expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    expires_in: u64,
    #[command(flatten)]
    node: Whereabouts,
}

#[derive(Args)]
struct User {
    #[command(flatten)]
    identity: Identity,
    /// The user's role
    #[arg(long, default_value = "authenticated", value_parser = NonEmptyStringValueParser::new())]
    role: String,
    /// The user's e-mail address [default: none]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    email: Option<String>,
    /// Another claim: JSON, or else a text
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
}

#[derive(Args)]
struct Context {
    /// The installation of the app
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    installation: String,
    #[command(flatten)]
    module: Module,
    /// What is shown there, as below [default: none]
    #[arg(long, value_name = "JSON", value_parser = extension)]
    extension: Option<Map<String, Value>>,
    /// The user's account [default: none]
    #[arg(long, value_name = "ACCOUNT", value_parser = NonEmptyStringValueParser::new())]
    sub: Option<String>,
    /// What is allowed there [default: none]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    scopes: Option<Vec<String>>,
    /// Seconds to its expiry, up to 900
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    expires_in: u64,
    #[command(flatten)]
    node: Whereabouts,
}

/// Where the app's own code is: at least one of these.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Module {
    /// The key of the app's module
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    module: Option<String>,
    /// Its type, which counts if it has no key
    #[arg(long, value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    module_type: Option<String>,
    /// A key of the host's own, for other pages
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    context_key: Option<String>,
}

#[derive(Args)]
struct Invocation {
    #[command(flatten)]
    context: Context,
    /// Not from a user interface: global channels only
    #[arg(long)]
    no_ui: bool,
}

#[derive(Args)]
struct Service {
    /// The installation of the app
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    installation: String,
    /// Seconds until it expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    expires_in: u64,
    #[command(flatten)]
    node: Whereabouts,
}

#[derive(Args)]
struct M2User {
    /// The user that the token is for
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: String,
    #[command(flatten)]
    writer: M2Writer,
}

/// The options of all tokens of M2.
#[derive(Args)]
struct M2Writer {
    /// The organization that the token is for
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    organization: String,
    /// Seconds until it expires
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    expires_in: u64,
    #[command(flatten)]
    node: Whereabouts,
}

/// Prints a token, and nothing else.
pub(super) fn print(Token { kind }: Token) -> Result<(), Failure> {
    let token = match kind {
        Kind::User(user) => user_token(user)?,
        Kind::Admin(identity) => {
            let role = "project_admin".to_owned();
            user_token(User { identity, role, email: None, claims: Vec::new() })?
        }
        Kind::ForgeContext(context) => place(context, audience::CONTEXT, None)?,
        Kind::ForgeInvocation(Invocation { context, no_ui }) => {
            place(context, audience::INVOCATION, Some(!no_ui))?
        }
        Kind::ForgeService(service) => back_end(service)?,
        Kind::M2(M2User { user, writer }) => m2(Some(&user), writer)?,
        Kind::M2Writer(writer) => m2(None, writer)?,
    };
    super::print(&format!("{token}\n"))
}

fn help(example: &str) -> String {
    format!(
        "The secret is FANFARE_JWT_SECRET, or the one that a node has kept in its data
directory since its first start. The token is all that is printed.

Example:
  {example}

Exit codes: 0 good, 2 wrong usage or configuration, or no keys yet,
1 any other failure"
    )
}

/// Returns the usage with the alternatives on a line of their own, so that it fits a screen.
fn place_usage(kind: &str) -> String {
    format!(
        "fanfare token {kind} [OPTIONS] --installation <ID>\n    \
         <--module <KEY>|--module-type <TYPE>|--context-key <KEY>>"
    )
}

fn extension(json: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(json).map_err(|error| format!("not a JSON object: {error}"))
}

/// The claims that options of their own set, or the node.
const CLAIMS_OF_OPTIONS: [&str; 5] = ["sub", "role", "email", "exp", "iat"];

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected a name, `=` and a value")?;
    if name.is_empty() || CLAIMS_OF_OPTIONS.contains(&name) {
        return Err(format!("`{name}` is set by other options"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn user_token(user: User) -> Result<String, Failure> {
    let User { identity: Identity { sub, expires_in, node }, role, email, claims } = user;
    let config = config(node)?;
    let now = now_s();
    let mut others = Map::from_iter([("iat".to_owned(), now.into())]);
    for (name, value) in ["iss", "aud"].into_iter().zip(asked(&config)) {
        others.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    others.extend(claims);
    let exp = Some(now.saturating_add(expires_in));
    let claims = UserClaims { sub: &sub, role: Some(&role), email: email.as_deref(), exp, others };
    let secret = secrets::jwt_secret(&config)?;
    Ok(sign_user(secret.expose(), &claims).map_err(NodeError::from)?)
}

fn place(context: Context, audience: Audience, ui: Option<bool>) -> Result<String, Failure> {
    let Context { installation, module, extension, sub, scopes, expires_in, node } = context;
    let place = NewPlace {
        module_key: module.module.as_deref(),
        module_type: module.module_type.as_deref(),
        context_key: module.context_key.as_deref(),
        extension: extension.as_ref(),
        sub: sub.as_deref(),
        scopes: scopes.as_deref(),
        ui,
    };
    proof(audience, &installation, Some(place), (expires_in, node))
}

fn back_end(service: Service) -> Result<String, Failure> {
    let Service { installation, expires_in, node } = service;
    proof(audience::SERVICE, &installation, None, (expires_in, node))
}

fn proof(
    audience: Audience,
    installation: &str,
    place: Option<NewPlace<'_>>,
    (expires_in, node): (u64, Whereabouts),
) -> Result<String, Failure> {
    let issued_at = now_s();
    let expires_at = issued_at.saturating_add(expires_in);
    let new = NewProof { audience, issued_at, expires_at, installation, place };
    Ok(sign_proof(&secret(node)?, &new)?)
}

fn m2(user: Option<&str>, writer: M2Writer) -> Result<String, Failure> {
    let M2Writer { organization, expires_in, node } = writer;
    let issued_at = now_s();
    let expires_at = issued_at.saturating_add(expires_in);
    let config = config(node)?;
    let asked = asked(&config);
    let new = NewToken { user, organization: &organization, asked, issued_at, expires_at };
    Ok(sign_token(secrets::jwt_secret(&config)?.expose(), &new)?)
}

/// Returns the secret of a node's tokens.
fn secret(node: Whereabouts) -> Result<String, Failure> {
    Ok(secrets::jwt_secret(&config(node)?)?.expose().to_owned())
}

fn config(node: Whereabouts) -> Result<Config, Failure> {
    let settings = Settings { place: node, listen: None, workers: None, conformance: false };
    Ok(load(settings)?)
}

/// Returns the `iss` and the `aud` that the node asks of users' tokens.
fn asked(config: &Config) -> [Option<&str>; 2] {
    [&config.auth.issuers, &config.auth.audiences]
        .map(|values| values.as_ref().and_then(|values| values.first()).map(String::as_str))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
