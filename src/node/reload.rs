//! Reloads: what a running node takes from its configuration, its secrets and its files of public
//! keys. A reload with any mistake changes nothing.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::cluster::effective;
use super::keys::{self, Issuers};
use super::notify::Notify;
use super::tls::Certificates;
use super::{NodeError, log};
use crate::background::issuer::Fetched;
use crate::config::secrets::{self, Secrets};
use crate::config::{Config, ConfigError, Effective, Reloaded};
use crate::interface::authenticators::Trust;

/// The configuration keys of secrets. They are compared as they are in effect, wherever they come
/// from.
const SECRETS: [&str; 4] = ["auth.api_key", "auth.anon_key", "auth.jwt_secret", "webhooks.secret"];

/// The key of the log's level, and that of the certificates, whose contents are read again.
const LOG: &str = "log";
const CERTIFICATES: &str = "tls.cert_file";

/// The state that reloads change, and how the configuration is read again.
pub(super) struct Reloader<R> {
    /// Reads the configuration from the sources of the start.
    pub(super) read: R,
    /// The configuration in effect.
    pub(super) config: Config,
    /// The secrets in effect.
    pub(super) secrets: Secrets,
    /// The files of public keys in effect.
    pub(super) issuers: Issuers,
    /// The fetched keys of an issuer in effect.
    pub(super) fetched: Followed,
    /// The trust in effect, which all threads follow.
    pub(super) trust: Arc<ArcSwap<Trust>>,
    /// What the other nodes of a cluster compare; `None` without a cluster.
    pub(super) effective: Option<Arc<ArcSwap<Effective>>>,
    /// The certificates in effect; `None` if clients do not encrypt.
    pub(super) certificates: Option<Certificates>,
    /// The supervisor, which is told of reloads.
    pub(super) notify: Notify,
}

/// Time between two looks at the files of certificates and at the keys that were fetched.
const LOOK: Duration = Duration::from_secs(2);

/// The fetched keys of an issuer, and those of them that are in effect.
pub(super) struct Followed {
    fetched: Option<Fetched>,
    taken: Option<Arc<String>>,
}

impl Followed {
    /// The keys that have been fetched by now are in effect.
    pub(super) fn new(fetched: Option<Fetched>) -> Self {
        let taken = fetched.as_ref().and_then(|fetched| fetched.set.load_full());
        Self { fetched, taken }
    }

    /// Returns whether there are others now, and notes that they are taken.
    fn take(&mut self) -> bool {
        let now = Self::new(self.fetched.take());
        let is_new = now.taken != self.taken;
        *self = now;
        is_new
    }
}

impl<R: Fn() -> Result<Config, ConfigError>> Reloader<R> {
    /// Reloads each time that it is asked to, as long as the node runs.
    pub(super) fn run(mut self, asked: &Receiver<()>) {
        loop {
            let has_to_look = self.certificates.is_some() || self.fetched.fetched.is_some();
            let asked = match has_to_look {
                true => asked.recv_timeout(LOOK),
                false => asked.recv().map_err(RecvTimeoutError::from),
            };
            let reloaded = match asked {
                Ok(()) => self.reload_and_tell(),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = reloaded {
                for mistake in error.to_string().lines() {
                    tracing::error!(mistake, "not reloaded; the settings before it stay in effect");
                }
            }
        }
    }

    /// Reloads, and tells the supervisor when it begins and ends.
    fn reload_and_tell(&mut self) -> Result<(), NodeError> {
        self.notify.reloading();
        let reloaded = self.reload();
        let status = match &reloaded {
            Ok(()) => "serving; reloaded".to_owned(),
            Err(error) => {
                let mistakes = error.to_string();
                let first = mistakes.lines().next().unwrap_or_default();
                format!("serving; not reloaded: {first}")
            }
        };
        self.notify.reloaded(&status);
        reloaded
    }

    /// Reads the certificates again if their files have changed, and takes keys that were fetched.
    fn look(&mut self) -> Result<(), NodeError> {
        if self.fetched.take() {
            let fetched = self.fetched.fetched.as_ref();
            let (trust, _) = keys::trusted(&self.config, &self.secrets, fetched)?;
            self.trust.store(Arc::new(trust));
        }
        let Some(certificates) = &mut self.certificates else { return Ok(()) };
        if certificates.have_changed(&self.config) && certificates.reload(&self.config)? {
            tracing::info!("the certificates have changed; connections that begin now get them");
        }
        Ok(())
    }

    fn reload(&mut self) -> Result<(), NodeError> {
        let newer = (self.read)()?;
        let mut config = self.config.clone();
        let mut reloaded = config.reload(&newer);
        let secrets = self.secrets(&newer, &mut reloaded)?;
        let fetched = self.fetched.fetched.as_ref();
        let (trust, issuers) = keys::trusted(&config, &secrets, fetched)?;
        for (old, new) in self.issuers.iter().zip(&issuers) {
            let changed = new.as_ref().filter(|_| old != new).map(|file| file.name);
            reloaded.taken.extend(changed.filter(|name| !reloaded.taken.contains(name)));
        }
        // The last that can fail, so that a reload with a mistake changes nothing.
        let certificates = self.certificates.as_mut();
        if certificates.map(|ours| ours.reload(&config)).transpose()? == Some(true) {
            reloaded.taken.push(CERTIFICATES);
        }
        if let Some(compared) = &self.effective {
            compared.store(Arc::new(effective(&config, &secrets, &trust)));
        }
        // Otherwise the caches of verified tokens would be emptied for nothing.
        if reloaded.taken.iter().any(|name| ![LOG, CERTIFICATES].contains(name)) {
            self.trust.store(Arc::new(trust));
        }
        tell(&reloaded, self.config.log.max(config.log), config.log);
        (self.config, self.secrets, self.issuers) = (config, secrets, issuers);
        Ok(())
    }

    /// Returns the secrets that are to be in effect, and notes which have changed.
    fn secrets(&self, newer: &Config, reloaded: &mut Reloaded) -> Result<Secrets, ConfigError> {
        // The data directory of the start, which the node keeps.
        let found = secrets::read_again(&self.config.data_dir, newer)?;
        let old = &self.secrets;
        let differs = [
            old.api_key != found.api_key,
            old.anon_key != found.anon_key,
            old.jwt_secret != found.jwt_secret,
            old.webhook_secret != found.webhook_secret,
        ];
        reloaded.taken.retain(|name| !SECRETS.contains(name));
        reloaded.later.retain(|name| !SECRETS.contains(name));
        for (name, _) in SECRETS.into_iter().zip(differs).filter(|(_, differs)| *differs) {
            let is_taken = crate::config::RELOADED.contains(&name);
            if is_taken { &mut reloaded.taken } else { &mut reloaded.later }.push(name);
        }
        Ok(Secrets { api_key: found.api_key, anon_key: found.anon_key, ..old.clone() })
    }
}

/// Logs what a reload did, at a level at which it is seen, and sets the level of the log.
fn tell(reloaded: &Reloaded, to_tell: tracing::Level, log: tracing::Level) {
    let list =
        |names: &[&str]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    log::set_level(to_tell);
    tracing::info!(changed = list(&reloaded.taken), "reloaded");
    if !reloaded.later.is_empty() {
        tracing::warn!(settings = list(&reloaded.later), "changed settings need a restart");
    }
    log::set_level(log);
}
