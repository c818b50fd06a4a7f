//! What `postgres.url` says, and whether the connection is encrypted.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};

use crate::background::cluster::credentials::{Tls, Wish};
use crate::config::{Config, ConfigError, Owner, Secret};
use crate::limits::POSTGRES_CONNECT_MS;

/// The parameters of a URL that say how to encrypt.
const MODE: &str = "sslmode";
const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// How a node connects to its database.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: Tls,
    /// The servers, as log lines name them: without user and password.
    pub(super) place: String,
    /// Whether counts of subscribers are written into the rows.
    pub(super) writes_counts: bool,
}

impl Settings {
    /// Returns the settings; `None` if no database is configured.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn of(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(url) = &config.postgres.url else { return Ok(None) };
        let authorities = config.postgres.tls_ca_file.clone();
        let read = Self::read(url, authorities);
        let mut settings = read
            .map_err(|error| config.mistake("postgres.url", format!("cannot be used: {error}")))?;
        settings.writes_counts = config.postgres.owner == Owner::Fanfare;
        let is_encrypted = settings.config.get_ssl_mode() != SslMode::Disable;
        if is_encrypted && config.postgres.tls_ca_file.is_some() {
            settings.tls.client().map_err(|error| {
                config.mistake("postgres.tls_ca_file", format!("cannot be used: {error}"))
            })?;
        }
        Ok(Some(settings))
    }

    /// Reads a URL. Its errors do not repeat it, because it may hold a password.
    fn read(url: &Secret, authorities: Option<PathBuf>) -> Result<Self, String> {
        let (url, mode) = split(url.expose())?;
        let config: tokio_postgres::Config = url.parse().map_err(super::fault::describe)?;
        let mut config = config;
        let is_local = is_local(&config);
        let is_plain = match mode.as_deref() {
            Some("disable") => true,
            None | Some("allow" | "prefer") => is_local,
            Some(_) => false,
        };
        config.ssl_mode(if is_plain { SslMode::Disable } else { SslMode::Require });
        if config.get_application_name().is_none() {
            config.application_name("fanfare");
        }
        config.connect_timeout(Duration::from_millis(POSTGRES_CONNECT_MS));
        config.keepalives_idle(Duration::from_secs(5));
        config.tcp_user_timeout(Duration::from_secs(10));
        let place = place(&config);
        let tls = Tls { wish: Wish::On, authorities, own: None };
        Ok(Self { config, tls, place, writes_counts: true })
    }
}

/// Checks what the configuration says of a database, and opens no connection.
///
/// # Errors
/// Every mistake.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    Settings::of(config).map(drop)
}

/// Returns a URL without the parameter that says how to encrypt, and that parameter.
fn split(url: &str) -> Result<(String, Option<String>), String> {
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let of = |one: &str| one.strip_prefix(MODE)?.strip_prefix('=').map(str::to_owned);
    let mode = query.split('&').find_map(of);
    if mode.as_ref().is_some_and(|mode| !MODES.contains(&mode.as_str())) {
        return Err(format!("`{MODE}` must be one of {}", MODES.join(", ")));
    }
    let rest: Vec<_> = query.split('&').filter(|one| of(one).is_none()).collect();
    let rest = rest.join("&");
    Ok((if rest.is_empty() { base.to_owned() } else { format!("{base}?{rest}") }, mode))
}

/// Returns whether all servers are on this machine. An address (`hostaddr`) takes the place of what
/// a name resolves to.
fn is_local(config: &tokio_postgres::Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

fn place(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let addresses = config.get_hostaddrs();
    if config.get_hosts().is_empty() {
        let named = addresses.iter().enumerate().map(|(at, address)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            std::net::SocketAddr::new(*address, port).to_string()
        });
        return named.collect::<Vec<_>>().join(", ");
    }
    let named = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => match addresses.get(at) {
                Some(address) => format!("{name}:{port} ({address})"),
                None => format!("{name}:{port}"),
            },
            Host::Unix(path) => path.display().to_string(),
        }
    });
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<(SslMode, String), String> {
        let settings = Settings::read(&Secret::from(url), None)?;
        Ok((settings.config.get_ssl_mode(), settings.place))
    }

    #[test]
    fn connections_beyond_this_machine_are_encrypted_unless_the_url_forbids_it() {
        let local = "127.0.0.1:5433".to_owned();
        let far = "db.example.org:5432".to_owned();
        for (url, mode, place) in [
            ("postgres://u:p@127.0.0.1:5433/app", SslMode::Disable, &local),
            ("postgres://u:p@127.0.0.1:5433/app?sslmode=require", SslMode::Require, &local),
            ("postgres://u:p@db.example.org/app", SslMode::Require, &far),
            ("postgres://u@db.example.org/app?sslmode=prefer", SslMode::Require, &far),
            ("postgres://u@db.example.org/app?sslmode=verify-full", SslMode::Require, &far),
            ("postgresql://u@db.example.org?sslmode=disable", SslMode::Disable, &far),
            (
                "postgres://u@localhost/app?hostaddr=192.0.2.1",
                SslMode::Require,
                &"localhost:5432 (192.0.2.1)".to_owned(),
            ),
            (
                "postgres://u@db.example.org/app?hostaddr=127.0.0.1",
                SslMode::Disable,
                &"db.example.org:5432 (127.0.0.1)".to_owned(),
            ),
            (
                "postgres:///app?user=u&hostaddr=192.0.2.1",
                SslMode::Require,
                &"192.0.2.1:5432".to_owned(),
            ),
        ] {
            assert_eq!(read(url), Ok((mode, place.clone())), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_not_repeated() {
        for url in ["postgres://u:hunter2@h/app?sslmode=no", "postgres://u:hunter2@h:port/app"] {
            let error = read(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
