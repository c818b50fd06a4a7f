//! A connection to the database: the client for its queries, and what it hears meanwhile.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{self, Sender, error::TrySendError};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Notification};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::fault::{Fault, describe};
use super::settings::Settings;
use super::tls::Connector;
use crate::limits::{POSTGRES_BELLS_MAX, POSTGRES_CONNECT_MS, POSTGRES_QUERY_MS};

/// The channel of notifications about rows.
pub(super) const BELL: &str = "realtime_message";
/// The channel of the node's own notifications, by which it knows what it has heard.
pub(super) const ECHO: &str = "fanfare_echo";

/// A notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// A row of this id was committed.
    Bell(Uuid),
    /// The node's own notification with this number.
    Echo(u64),
}

/// A connection, which ends when it is dropped.
pub(super) struct Link {
    pub(super) client: Arc<Client>,
    /// Notifications, in the order of commits.
    pub(super) heard: mpsc::Receiver<Heard>,
    /// Whether notifications were dropped, because too many waited.
    pub(super) has_dropped: Arc<AtomicBool>,
    /// Ends with the connection, with the reason.
    pub(super) ended: JoinHandle<String>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// If the server does not take the connection in time.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let (sender, heard) = mpsc::channel(POSTGRES_BELLS_MAX);
        let has_dropped = Arc::new(AtomicBool::new(false));
        let hearing = Hearing { sender, has_dropped: has_dropped.clone() };
        let opening = connect(settings, hearing);
        let patience = Duration::from_millis(POSTGRES_CONNECT_MS);
        let opened = timeout(patience, opening).await;
        let (client, ended) = opened.unwrap_or_else(|_| {
            Err(Fault::Connect(settings.place.clone(), "it does not answer".to_owned(), None))
        })?;
        Ok(Self { client: Arc::new(client), heard, has_dropped, ended })
    }

    /// Sends statements without parameters.
    pub(super) async fn execute(&self, statements: &str) -> Result<(), Fault> {
        in_time(self.client.batch_execute(statements)).await
    }
}

/// Waits for the answer to a query, for a bounded time.
pub(super) async fn in_time<T>(
    query: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Fault> {
    let patience = Duration::from_millis(POSTGRES_QUERY_MS);
    Ok(timeout(patience, query).await.map_err(|_| Fault::Silent)??)
}

async fn connect(
    settings: &Settings,
    hearing: Hearing,
) -> Result<(Client, JoinHandle<String>), Fault> {
    let failed = |error| Fault::connect(&settings.place, error);
    if settings.config.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = settings.config.connect(NoTls).await.map_err(failed)?;
        return Ok((client, tokio::spawn(hearing.listen(connection))));
    }
    let tls = settings.tls.client().map_err(|error| Fault::Tls(error.to_string()))?;
    let connector = Connector(TlsConnector::from(tls));
    let (client, connection) = settings.config.connect(connector).await.map_err(failed)?;
    Ok((client, tokio::spawn(hearing.listen(connection))))
}

/// Where notifications of a connection go.
struct Hearing {
    sender: Sender<Heard>,
    has_dropped: Arc<AtomicBool>,
}

impl Hearing {
    /// Drives a connection until it ends. Returns why it has ended.
    async fn listen<S, T>(self, mut connection: Connection<S, T>) -> String
    where
        S: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => self.take(&notification),
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    tracing::debug!(notice = notice.message(), "PostgreSQL says something");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return describe(error),
                None => return "the connection is closed".to_owned(),
            }
        }
    }

    fn take(&self, notification: &Notification) {
        let text = notification.payload();
        let heard = match notification.channel() {
            BELL => text.parse().ok().map(Heard::Bell),
            ECHO => text.parse().ok().map(Heard::Echo),
            _ => None,
        };
        let Some(heard) = heard else { return };
        if let Err(TrySendError::Full(_)) = self.sender.try_send(heard) {
            self.has_dropped.store(true, Ordering::Relaxed);
        }
    }
}
