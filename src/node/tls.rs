//! The certificates that clients are shown: reads them, and notices when their files change.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::codec::tls::{CertificateError, Terms};
use crate::config::tls_files::{TlsFile, TlsFiles, tls_files};
use crate::config::{Config, ConfigError};

/// Makes the terms of TLS of these files. Tickets of the terms `before` are still taken.
///
/// # Errors
/// Files that cannot be used.
fn terms(config: &Config, files: &TlsFiles, before: Option<&Terms>) -> Result<Terms, ConfigError> {
    let terms = Terms::new(&files.pairs, files.client_ca.as_deref(), before);
    terms.map_err(|error| match &error {
        CertificateError::Certificate(place, _) => {
            config.tls_mistake(TlsFile::Certificate(*place), &error)
        }
        CertificateError::Key(place, _) => config.tls_mistake(TlsFile::Key(*place), &error),
        CertificateError::ClientAuthorities(_) => {
            config.tls_mistake(TlsFile::ClientAuthorities, &error)
        }
        CertificateError::System(_) => error.to_string().into(),
    })
}

/// Checks the files that the configuration names.
///
/// # Errors
/// Files that cannot be read or used.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    Certificates::read(config).map(drop)
}

/// The certificates in effect.
pub(super) struct Certificates {
    terms: Arc<ArcSwap<Terms>>,
    files: TlsFiles,
    /// What the files were like when they were last read, and a moment ago.
    read: Vec<Mark>,
    seen: Vec<Mark>,
    /// Looks at which the files had changed and went on changing.
    unsettled: u32,
}

/// Looks after which files that go on changing are read all the same.
const UNSETTLED_MAX: u32 = 3;

/// What tells whether a file has changed: its number, length and time of change.
type Mark = Option<(u64, u64, i64, i64)>;

impl Certificates {
    /// Reads the certificates; `None` if clients do not encrypt.
    ///
    /// # Errors
    /// Files that cannot be read or used.
    pub(super) fn read(config: &Config) -> Result<Option<Self>, ConfigError> {
        let read = marks(config);
        let Some(files) = tls_files(config)? else { return Ok(None) };
        let terms = Arc::new(ArcSwap::from_pointee(terms(config, &files, None)?));
        Ok(Some(Self { terms, files, seen: read.clone(), read, unsettled: 0 }))
    }

    /// Returns the terms, which later reads replace.
    pub(super) fn terms(&self) -> Arc<ArcSwap<Terms>> {
        self.terms.clone()
    }

    /// Reads the files again. Connections that begin afterwards are shown what they have now.
    /// Returns whether that has changed.
    ///
    /// # Errors
    /// Files that cannot be read or used; then nothing changes.
    pub(super) fn reload(&mut self, config: &Config) -> Result<bool, ConfigError> {
        self.read = marks(config);
        let Some(files) = tls_files(config)?.filter(|files| *files != self.files) else {
            return Ok(false);
        };
        self.terms.store(Arc::new(terms(config, &files, Some(&self.terms.load()))?));
        self.files = files;
        Ok(true)
    }

    /// Returns whether the files have changed since they were read, and no longer change: one who
    /// replaces a certificate replaces its key a moment later. Files that change all the time count
    /// as changed after some looks.
    pub(super) fn have_changed(&mut self, config: &Config) -> bool {
        let now = marks(config);
        let is_still = now == self.seen;
        self.seen = now;
        if self.seen == self.read {
            self.unsettled = 0;
            return false;
        }
        self.unsettled += 1;
        let is_due = is_still || self.unsettled >= UNSETTLED_MAX;
        if is_due {
            self.unsettled = 0;
        }
        is_due
    }
}

fn marks(config: &Config) -> Vec<Mark> {
    let mark = |path: &std::path::Path| {
        let found = path.metadata().ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    config.tls_paths().into_iter().map(mark).collect()
}
