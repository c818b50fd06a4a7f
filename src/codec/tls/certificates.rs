//! The terms of TLS connections: the node's certificates.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

/// The only protocol that is spoken inside of TLS.
const PROTOCOL: &[u8] = b"http/1.1";

/// What connections that begin now are offered.
#[derive(Clone, Debug)]
pub struct Terms(pub(super) Arc<ServerConfig>);

/// Why certificates cannot be used. The text follows the name of their file.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The first file of a pair is at fault.
    #[error("{1}")]
    Certificate(usize, String),
    /// The second file of a pair is at fault.
    #[error("{1}")]
    Key(usize, String),
    /// The file of the authorities of clients is at fault.
    #[error("{0}")]
    ClientAuthorities(String),
    /// TLS cannot be had here, whatever the files have.
    #[error("TLS cannot be set up: {0}")]
    System(#[from] rustls::Error),
}

impl Terms {
    /// Creates terms of PEM files: pairs of certificates, each with those of its issuers behind it,
    /// and private keys. A client receives the first certificate with the name that it asks for, or
    /// else the first of all. Tickets of the terms `before` are still taken.
    ///
    /// If there are authorities of clients, each client is asked for a certificate of one of them.
    /// It need not show one, and a wrong one ends the handshake. There are no tickets then: with
    /// one, a client would be known by a certificate that has expired or whose authority has gone.
    ///
    /// # Errors
    /// The first file with a fault.
    pub fn new(
        pairs: &[(Vec<u8>, Vec<u8>)],
        client_ca: Option<&[u8]>,
        before: Option<&Self>,
    ) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pairs = pairs.iter().enumerate();
        let keys: Result<_, _> =
            pairs.map(|(place, pair)| certified(&provider, place, pair)).collect();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match client_ca {
            Some(pem) => builder.with_client_cert_verifier(verifier(provider, pem)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(keys?)));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        if client_ca.is_some() {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            return Ok(Self(Arc::new(config)));
        }
        config.ticketer = match before {
            Some(Self(before)) => before.ticketer.clone(),
            None => Ticketer::new()?,
        };
        // A client makes one connection, and a further ticket would be 250 bytes for nothing.
        config.send_tls13_tickets = 1;
        Ok(Self(Arc::new(config)))
    }
}

/// Returns what checks the certificates that clients show. They may show none.
fn verifier(
    provider: Arc<CryptoProvider>,
    pem: &[u8],
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let fault = |text: String| CertificateError::ClientAuthorities(text);
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| fault(format!("is not PEM: {error}")))?;
    if all.is_empty() {
        return Err(fault("has no certificate (BEGIN CERTIFICATE)".to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for one in all {
        roots
            .add(one)
            .map_err(|error| fault(format!("has no certificate of an authority: {error}")))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| fault(format!("cannot be used: {error}")))
}

/// Reads a pair, and checks that the key is the certificate's.
fn certified(
    provider: &CryptoProvider,
    place: usize,
    (chain, key): &(Vec<u8>, Vec<u8>),
) -> Result<Certified, CertificateError> {
    let certificate = |text: String| CertificateError::Certificate(place, text);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| certificate(format!("is not PEM: {error}")))?;
    let Some(first) = chain.first() else {
        return Err(certificate("has no certificate (BEGIN CERTIFICATE)".to_owned()));
    };
    ParsedCertificate::try_from(first)
        .map_err(|error| certificate(format!("has no certificate of a server: {error}")))?;
    let at_key = |text: String| CertificateError::Key(place, text);
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        at_key(format!("has no private key that is not encrypted (BEGIN PRIVATE KEY): {error}"))
    })?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| at_key(format!("has a key that cannot be used: {error}")))?;
    let key = CertifiedKey::new(chain, key);
    // A key that does not say what its public part is cannot be compared.
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(at_key("has the key of another certificate".to_owned())),
    }
    Ok(Certified(Arc::new(key)))
}

/// A certificate and its key.
#[derive(Debug)]
struct Certified(Arc<CertifiedKey>);

impl Certified {
    fn is_of(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.0.cert.first().map(ParsedCertificate::try_from);
        matches!(parsed, Some(Ok(parsed)) if verify_server_name(&parsed, name).is_ok())
    }
}

/// Finds certificates by the names that clients ask for.
#[derive(Debug)]
struct ByName(Vec<Certified>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let first = self.0.first()?;
        if self.0.len() == 1 {
            return Some(first.0.clone());
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let found = name.and_then(|name| self.0.iter().find(|one| one.is_of(&name)));
        Some(found.unwrap_or(first).0.clone())
    }
}
