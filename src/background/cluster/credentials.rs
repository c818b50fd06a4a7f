//! Who the node is to a server, and TLS. Files are read for each connection, so that renewed ones
//! count from the next one on.

mod nkey;

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, crypto};
use thiserror::Error;

use super::protocol::{Connect, Info};
use crate::config::{Cluster, Config, ConfigError, Secret};
use crate::limits::NATS_FILE_BYTES_MAX;

pub use crate::config::TlsWish as Wish;

/// What a node shows a server that asks who it is.
#[derive(Clone, Default, Debug)]
pub enum Credentials {
    /// Nothing: the server takes every client.
    #[default]
    None,
    /// A user and the user's password.
    User(String, Secret),
    /// A token that all clients of the server share.
    Token(Secret),
    /// A credentials file, as `nsc` writes it: the token of a user, and the seed of the user's key.
    File(PathBuf),
}

/// The files of TLS.
#[derive(Clone, Default, Debug)]
pub struct Tls {
    /// Whether TLS is used.
    pub wish: Wish,
    /// Certificates of the authorities that servers may have theirs from, in PEM. Without the file
    /// the system's count.
    pub authorities: Option<PathBuf>,
    /// The node's own certificate with its chain, and its private key, both in PEM.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Why credentials or certificates cannot be used. The texts show no secret.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read, or does not hold what it should.
    #[error("the {what} {path}: {problem}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Its path, as it was configured.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The server gave nothing to sign.
    #[error(
        "the server asks for no signature, so that the credentials file is of no use to it: it is \
         not set up for users with keys"
    )]
    NoNonce,
    /// The system has no certificates of authorities.
    #[error("the system trusts no authority; name a file with the authority of the servers")]
    NoAuthorities,
    /// TLS cannot be set up with these certificates.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

const CREDENTIALS_FILE: &str = "credentials file";
const AUTHORITIES_FILE: &str = "file of authorities";
const CERTIFICATE_FILE: &str = "file of the node's certificate";
const KEY_FILE: &str = "file of the node's private key";

impl Credentials {
    /// Returns the configured credentials.
    pub fn of(cluster: &Cluster) -> Self {
        let Cluster { user, password, token, credentials_file, .. } = cluster;
        match (user, password, token, credentials_file) {
            (_, _, _, Some(path)) => Self::File(path.clone()),
            (_, _, Some(token), None) => Self::Token(token.clone()),
            (Some(user), Some(password), None, None) => Self::User(user.clone(), password.clone()),
            _ => Self::None,
        }
    }

    /// Fills in what a CONNECT shows this server.
    ///
    /// # Errors
    /// If the credentials file cannot be used, or the server gave no nonce for it.
    pub fn fill(&self, connect: &mut Connect, info: &Info) -> Result<(), CredentialsError> {
        match self {
            Self::None => {}
            Self::User(name, password) => connect.user = Some((name.clone(), password.clone())),
            Self::Token(token) => connect.token = Some(token.clone()),
            Self::File(path) => {
                let (jwt, key) = read_credentials(path)?;
                let nonce = info.nonce.as_ref().ok_or(CredentialsError::NoNonce)?;
                let signature = key.sign(nonce.as_bytes());
                connect.jwt = Some((jwt, URL_SAFE_NO_PAD.encode(signature.as_ref())));
            }
        }
        Ok(())
    }

    /// Reads the files once, to find mistakes before the first connection.
    ///
    /// # Errors
    /// If the credentials file cannot be used.
    pub fn check(&self) -> Result<(), CredentialsError> {
        match self {
            Self::File(path) => read_credentials(path).map(drop),
            _ => Ok(()),
        }
    }
}

impl Tls {
    /// Returns the configured use of TLS.
    pub fn of(cluster: &Cluster) -> Self {
        let own = cluster.own_certificate().map(|(one, key)| (one.to_owned(), key.to_owned()));
        Self { wish: cluster.tls, authorities: cluster.tls_ca_file.clone(), own }
    }

    /// Reads the certificates and returns what a client does with them.
    ///
    /// # Errors
    /// If a file cannot be read or used, or no authority is trusted.
    pub fn client(&self) -> Result<Arc<ClientConfig>, CredentialsError> {
        let roots = self.roots()?;
        let tls = |error: rustls::Error| CredentialsError::Tls(error.to_string());
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(roots);
        let config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(CERTIFICATE_FILE, certificate)?;
                let text = read(KEY_FILE, key)?;
                let key = PrivateKeyDer::from_pem_slice(&text)
                    .map_err(|error| mistaken(KEY_FILE, key, error))?;
                builder.with_client_auth_cert(chain, key).map_err(tls)?
            }
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, CredentialsError> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.authorities else {
            // Certificates of the system that cannot be read are no worse than missing ones.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return if roots.is_empty() { Err(CredentialsError::NoAuthorities) } else { Ok(roots) };
        };
        for certificate in certificates(AUTHORITIES_FILE, path)? {
            roots.add(certificate).map_err(|error| mistaken(AUTHORITIES_FILE, path, error))?;
        }
        Ok(roots)
    }
}

/// Checks the files that the settings of the cluster name, and opens no connection.
///
/// # Errors
/// Every file that cannot be used.
pub fn check_files(config: &Config) -> Result<(), ConfigError> {
    if !config.is_clustered() {
        return Ok(());
    }
    let cluster = &config.cluster;
    let mistake = |key: &'static str, error: CredentialsError| {
        config.mistake(key, format!("cannot be used: {error}"))
    };
    // Whether the system's authorities are needed is not known before a server was asked.
    let files = [
        ("cluster.tls_ca_file", cluster.tls_ca_file.is_some()),
        ("cluster.tls_cert_file", cluster.tls_cert_file.is_some()),
    ];
    let tls = match files.into_iter().find(|(_, is_set)| *is_set) {
        Some((key, _)) => Tls::of(cluster).client().map(drop).map_err(|error| mistake(key, error)),
        None => Ok(()),
    };
    let credentials = Credentials::of(cluster).check();
    let credentials = credentials.map_err(|error| mistake("cluster.credentials_file", error));
    ConfigError::all([credentials, tls])
}

/// Returns the certificates of a PEM file, of which there is at least one.
fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let text = read(what, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| mistaken(what, path, error))?;
    if all.is_empty() {
        return Err(mistaken(what, path, "it holds no certificate in PEM"));
    }
    Ok(all)
}

/// Returns the token and the key of a credentials file.
fn read_credentials(path: &Path) -> Result<(Secret, nkey::UserKey), CredentialsError> {
    let text = read(CREDENTIALS_FILE, path)?;
    let fail = |problem: &str| mistaken(CREDENTIALS_FILE, path, problem);
    let text = std::str::from_utf8(&text).map_err(|_| fail("it is not text"))?;
    let mut blocks = blocks(text);
    let (Some(jwt), Some(seed)) = (blocks.next(), blocks.next()) else {
        return Err(fail("it does not hold a user's token and seed, each between dashed lines"));
    };
    let key = nkey::UserKey::from_seed(seed).map_err(|error| fail(&error.to_string()))?;
    Ok((Secret::from(jwt), key))
}

/// Returns the lines that stand alone between two lines of dashes.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let is_dashed = |line: &str| line.starts_with("---") && line.ends_with("---");
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    std::iter::from_fn(move || {
        lines.find(|line| is_dashed(line))?;
        let body = lines.next().filter(|line| !is_dashed(line))?;
        lines.next().filter(|line| is_dashed(line)).map(|_| body)
    })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| mistaken(what, path, error))?;
    let mut file = file.take(NATS_FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(|error| mistaken(what, path, error))?;
    if bytes.len() as u64 > NATS_FILE_BYTES_MAX {
        let problem = format!("it has more than {NATS_FILE_BYTES_MAX} bytes");
        return Err(mistaken(what, path, problem));
    }
    Ok(bytes)
}

fn mistaken(what: &'static str, path: &Path, problem: impl Display) -> CredentialsError {
    CredentialsError::File { what, path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

    fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn credentials(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ******* IMPORTANT *******\nNKEYs are secret.\n\n-----BEGIN USER NKEY SEED-----\r\n\
             {seed}\r\n------END USER NKEY SEED------\n\n*******\n"
        )
    }

    #[test]
    fn a_credentials_file_signs_the_nonce() {
        let (_folder, path) = file(credentials("a.b.c", SEED));
        let credentials = Credentials::File(path);
        credentials.check().unwrap();
        let mut connect = Connect::default();
        let info = Info { nonce: Some("PXoWU7zWAMt75FY".into()), ..Info::default() };
        credentials.fill(&mut connect, &info).unwrap();
        let (jwt, signature) = connect.jwt.unwrap();
        assert_eq!(jwt.expose(), "a.b.c");
        assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap().len(), 64);
        let error = credentials.fill(&mut Connect::default(), &Info::default()).unwrap_err();
        assert!(matches!(error, CredentialsError::NoNonce), "{error}");
    }

    #[test]
    fn mistakes_in_a_credentials_file_are_told_without_its_secrets() {
        let other = SEED.replace("SUAC", "SUAD");
        let cases = [
            (String::new(), "does not hold a user's token and seed"),
            (credentials("", SEED), "does not hold a user's token and seed"),
            (credentials("a.b.c", "not base32"), "not base32"),
            (credentials("a.b.c", &other), "checksum"),
            ("x".repeat(usize::try_from(NATS_FILE_BYTES_MAX).unwrap() + 1), "more than"),
        ];
        for (text, problem) in cases {
            let (_folder, path) = file(&text);
            let error = Credentials::File(path.clone()).check().unwrap_err().to_string();
            let is_told = error.contains(problem) && error.contains(path.to_str().unwrap());
            assert!(is_told && !error.contains(&SEED[8..]), "{error}");
        }
        let error = Credentials::File("/nowhere/user.creds".into()).check().unwrap_err();
        assert!(error.to_string().contains("/nowhere/user.creds: No such file"), "{error}");
    }

    #[test]
    fn mistakes_in_certificates_are_told() {
        let (_folder, path) = file("no certificate");
        let tls = Tls { authorities: Some(path.clone()), ..Tls::default() };
        let error = tls.client().unwrap_err().to_string();
        assert!(error.contains("file of authorities") && error.contains("no certificate"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (_folder, authorities) = file(made.cert.pem());
        let good = Tls { authorities: Some(authorities.clone()), ..Tls::default() };
        good.client().unwrap();
        let own = Some((authorities.clone(), path));
        let error = Tls { own, ..good.clone() }.client().unwrap_err().to_string();
        assert!(error.contains("private key") && error.contains("no items found"), "{error}");
        let (_folder, key) = file(rcgen::KeyPair::generate().unwrap().serialize_pem());
        let own = Some((authorities, key));
        let error = Tls { own, ..good }.client().unwrap_err().to_string();
        assert!(error.contains("TLS cannot be set up"), "{error}");
    }
}
