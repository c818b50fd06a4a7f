//! Why the database cannot be used: what happened, whose fault it is, and what to do.

use std::error::Error as _;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// Why the connections were given up.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection was made.
    #[error("PostgreSQL at {0} cannot be connected to: {1}; {advice}", advice = advice(.2.as_ref()))]
    Connect(String, String, Option<SqlState>),
    /// A connection was lost, or the server refused a statement.
    #[error("PostgreSQL ended the connection or refused a statement: {0}")]
    Lost(String),
    /// The user of the URL lacks a right.
    #[error(
        "PostgreSQL denies what is needed: {0}; to serve, the user of `postgres.url` needs USAGE on \
         the schema realtime, SELECT and UPDATE on realtime.messages, and UPDATE on \
         realtime.fanfare_capture; to install and uninstall, it must own the schema, or be allowed \
         to create it"
    )]
    Denied(String),
    /// Another session holds a lock.
    #[error(
        "another session uses what is to be changed: {0}; stop the nodes that publish the rows of \
         this database, and try again"
    )]
    Busy(String),
    /// The server has not answered in time.
    #[error("PostgreSQL has not answered in time")]
    Silent,
    /// The node's own notifications do not come back.
    #[error(
        "notifications do not arrive, as behind a pooler of transactions: let `postgres.url` name \
         the server itself"
    )]
    Deaf,
    /// The schema is not there.
    #[error("the database lacks {0}: run `fanfare postgres install` with the same settings")]
    NotInstalled(&'static str),
    /// The user of the URL may not do what the node does.
    #[error("{0}")]
    Refused(String),
    /// The node leaves the rows to another node, or stops.
    #[error("the node leaves the rows to others")]
    Apart,
    /// TLS cannot be used.
    #[error("TLS cannot be used: {0}")]
    Tls(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let code = error.code().cloned();
        let text = describe(error);
        match code {
            Some(SqlState::INSUFFICIENT_PRIVILEGE) => Self::Denied(text),
            Some(SqlState::LOCK_NOT_AVAILABLE) => Self::Busy(text),
            _ => Self::Lost(text),
        }
    }
}

impl Fault {
    /// Returns the fault of a connection that was not made.
    pub(super) fn connect(place: &str, error: Error) -> Self {
        let code = error.code().cloned();
        Self::Connect(place.to_owned(), describe(error), code)
    }
}

/// Returns what to do about a connection that was not made.
fn advice(code: Option<&SqlState>) -> &'static str {
    let Some(code) = code else {
        return "is it running there, and does it listen on that address?";
    };
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "mend the user or the password in `postgres.url`, or pg_hba.conf of the server"
        }
        SqlState::INVALID_CATALOG_NAME => "mend the name of the database in `postgres.url`",
        SqlState::TOO_MANY_CONNECTIONS => "raise max_connections of the server: a node takes three",
        SqlState::INSUFFICIENT_PRIVILEGE => "GRANT CONNECT on the database to the user",
        _ => "it is tried again",
    }
}

/// Returns an error with its causes, in one line. Errors of this crate hold no password.
pub(super) fn describe(error: Error) -> String {
    if let Some(error) = error.as_db_error() {
        let text = format!("{} ({})", error.message(), error.code().code());
        let more = error.detail().map(|detail| format!("{text}: {}", detail.replace('\n', ", ")));
        return more.unwrap_or(text);
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text.replace('\n', " ")
}

/// Runs a query that changes nothing, to see that a connection is alive.
pub(super) async fn beat(client: &Client) -> Result<(), Error> {
    client.batch_execute("SELECT 1").await
}
