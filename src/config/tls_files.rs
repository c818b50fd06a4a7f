//! The files of certificates and keys that clients are shown.

use std::path::Path;

use super::sources::{open, read_bytes};
use super::{Config, ConfigError};

/// The keys of the files.
const CERT: &str = "tls.cert_file";
const KEY: &str = "tls.key_file";
const CLIENT_CA: &str = "tls.client_ca_file";
/// Longest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The contents of the files.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates with those of their issuers, and their private keys.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Certificates of the authorities of clients; `None` if clients are not asked for theirs.
    pub client_ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFiles").field("pairs", &self.pairs.len()).finish_non_exhaustive()
    }
}

/// One of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsFile {
    /// The certificate of the pair with this number.
    Certificate(usize),
    /// The private key of the pair with this number.
    Key(usize),
    /// The certificates of clients' authorities.
    ClientAuthorities,
}

impl Config {
    /// Returns the paths of all the files: certificates, then keys, then authorities of clients.
    pub fn tls_paths(&self) -> Vec<&Path> {
        let (certs, keys) = (self.tls.cert_file.iter(), self.tls.key_file.iter());
        let all = certs.chain(keys).flatten().chain(&self.tls.client_ca_file);
        all.map(AsRef::as_ref).collect()
    }

    /// Returns whether keys of back ends count only beside a certificate of the client.
    pub fn wants_certificates(&self) -> bool {
        self.tls.client_ca_file.is_some()
    }

    /// Returns the mistake of one of the files.
    pub fn tls_mistake(&self, file: TlsFile, reason: impl std::fmt::Display) -> ConfigError {
        let of = |paths: &Option<Vec<_>>, at: usize| paths.as_ref()?.get(at).cloned();
        let (key, path) = match file {
            TlsFile::Certificate(at) => (CERT, of(&self.tls.cert_file, at)),
            TlsFile::Key(at) => (KEY, of(&self.tls.key_file, at)),
            TlsFile::ClientAuthorities => (CLIENT_CA, self.tls.client_ca_file.clone()),
        };
        self.path_error(key, &path.unwrap_or_default(), reason.to_string())
    }
}

/// Reads the files; `None` if clients do not encrypt.
///
/// # Errors
/// Files that cannot be read, a certificate without a key, and the other way around.
pub fn tls_files(config: &Config) -> Result<Option<TlsFiles>, ConfigError> {
    let (certs, keys) = match (&config.tls.cert_file, &config.tls.key_file) {
        // Otherwise clients could show no certificate, and no key would count.
        (None, None) if config.wants_certificates() => {
            return Err(config.mistake(CLIENT_CA, format!("needs `{CERT}` and `{KEY}`, too")));
        }
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(config.mistake(CERT, format!("needs `{KEY}`, too"))),
        (None, Some(_)) => return Err(config.mistake(KEY, format!("needs `{CERT}`, too"))),
        (Some(certs), Some(keys)) => (certs, keys),
    };
    if certs.len() != keys.len() {
        let reason = format!(
            "has {} paths, but `{CERT}` has {}: each certificate needs its key",
            keys.len(),
            certs.len()
        );
        return Err(config.mistake(KEY, reason));
    }
    let read = |file, path: &Path| {
        read_bytes(open(path), FILE_BYTES_MAX).map_err(|reason| config.tls_mistake(file, reason))
    };
    let mut pairs = Vec::new();
    for (place, (cert, key)) in certs.iter().zip(keys).enumerate() {
        pairs.push((read(TlsFile::Certificate(place), cert)?, read(TlsFile::Key(place), key)?));
    }
    let authorities = config.tls.client_ca_file.as_deref();
    let client_ca = authorities.map(|path| read(TlsFile::ClientAuthorities, path)).transpose()?;
    Ok(Some(TlsFiles { pairs, client_ca }))
}
