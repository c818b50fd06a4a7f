//! Nodes whose clients encrypt: certificates that a test makes, and a way through which tests that
//! know nothing of TLS reach such a node.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData as _,
};
use rustls::client::{Resumption, WantsClientCert};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{self, Handle};
use tokio_rustls::TlsConnector;

/// The variable that lets every node encrypt, behind a way of its own.
pub(crate) const ENCRYPTED: &str = "FANFARE_TEST_ENCRYPTED";
/// The name in the certificates of [`Authority::ours`].
pub(crate) const NAME: &str = "localhost";

/// How much the sockets of a way hold, in bytes: little, so that a client that does not read is
/// noticed as without a way.
const BUFFER_BYTES: u32 = 16 * 1024;

/// Returns whether nodes encrypt and tests reach them through a way.
pub(crate) fn is_wished() -> bool {
    std::env::var_os(ENCRYPTED).is_some()
}

/// Makes certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

/// The files of a certificate and its key.
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("there are no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate whose issuer has its own name would look self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key is made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        let files = tempfile::tempdir().expect("a directory of the test");
        std::fs::write(files.path().join("ca.pem"), issuer.pem()).expect("it is written");
        Self { issuer, files }
    }

    /// Returns the one of all nodes that are reached through a way.
    fn ours() -> &'static (Self, Pair) {
        static OURS: OnceLock<(Authority, Pair)> = OnceLock::new();
        OURS.get_or_init(|| {
            let authority = Authority::new();
            let pair = authority.pair("node", &[NAME, "127.0.0.1"]);
            (authority, pair)
        })
    }

    /// Returns the file with the authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.files.path().join("ca.pem")
    }

    /// Returns the variables by which Node.js, OpenSSL below Python, Python's requests, and curl
    /// trust this authority.
    pub(crate) fn trust(&self) -> Vec<(&'static str, String)> {
        let file = self.file().display().to_string();
        let names =
            ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];
        names.map(|name| (name, file.clone())).into()
    }

    /// Makes a certificate for these names. Writes it, or over the files of an earlier one.
    pub(crate) fn pair(&self, file: &str, names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("these are names");
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        let path = |end| self.files.path().join(format!("{file}.{end}"));
        let pair = Pair { cert: path("pem"), key: path("key") };
        std::fs::write(&pair.cert, certificate.pem()).expect("it is written");
        std::fs::write(&pair.key, key.serialize_pem()).expect("it is written");
        pair
    }

    /// Returns what a client needs that trusts this authority alone.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.client_of(ConfigBuilder::<ClientConfig, _>::with_no_client_auth))
    }

    /// Does the same for a client that shows this certificate.
    pub(crate) fn client_with(&self, own: &Pair) -> Arc<ClientConfig> {
        let chain = CertificateDer::pem_file_iter(&own.cert).expect("it was written");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("it is a certificate");
        let key = PrivateKeyDer::from_pem_file(&own.key).expect("it is a key");
        Arc::new(self.client_of(|builder| {
            builder.with_client_auth_cert(chain, key).expect("they belong together")
        }))
    }

    fn client_of(
        &self,
        authenticate: impl FnOnce(ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them");
        let mut config = authenticate(builder.with_root_certificates(roots));
        // A client that resumes a session is shown no certificate.
        config.resumption = Resumption::disabled();
        config
    }
}

impl Pair {
    /// Returns the hash of the public key by which Chromium trusts a certificate.
    fn public_key_hash(&self) -> String {
        let pem = std::fs::read_to_string(&self.key).expect("it was written");
        let key = KeyPair::from_pem(&pem).expect("it is a key");
        STANDARD.encode(Sha256::digest(key.subject_public_key_info()))
    }

    /// Lets a node show this certificate.
    pub(crate) fn configure(&self, command: &mut Command) {
        command.env("FANFARE_TLS_CERT_FILE", &self.cert).env("FANFARE_TLS_KEY_FILE", &self.key);
    }
}

/// Lets a node encrypt that is reached through a way.
pub(super) fn configure(command: &mut Command) {
    Authority::ours().1.configure(command);
}

/// Returns the variables by which a program in JavaScript or Python, and Chromium, trust the node.
pub(super) fn trust() -> Vec<(&'static str, String)> {
    let (authority, pair) = Authority::ours();
    let mut all = authority.trust();
    all.push(("FANFARE_TRUSTED_KEY", pair.public_key_hash()));
    all
}

/// A port of this test behind which a node encrypts, for all starts of the node.
#[derive(Default)]
pub(super) struct Way(OnceLock<(u16, Arc<AtomicU16>)>);

impl Way {
    /// Returns the port on which the node has listened before; 0 if it has not.
    pub(super) fn before(&self) -> u16 {
        self.0.get().map_or(0, |(_, target)| target.load(Ordering::SeqCst))
    }

    /// Returns the port that leads to a node's.
    pub(super) fn to(&self, node: u16) -> u16 {
        let (port, target) = self.0.get_or_init(|| {
            let target = Arc::new(AtomicU16::new(node));
            (open(target.clone()), target)
        });
        target.store(node, Ordering::SeqCst);
        *port
    }
}

/// Returns the runtime of all ways, which has a thread of its own.
fn ways() -> &'static Handle {
    static WAYS: OnceLock<Handle> = OnceLock::new();
    WAYS.get_or_init(|| {
        let (sender, handle) = mpsc::channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("the system gives a runtime");
            sender.send(runtime.handle().clone()).expect("it is waited for");
            runtime.block_on(std::future::pending::<()>());
        });
        handle.recv().expect("the thread sends it")
    })
}

/// Opens a port that leads to another. Each connection is encrypted on its way.
fn open(target: Arc<AtomicU16>) -> u16 {
    let (sender, port) = mpsc::channel();
    let connector = TlsConnector::from(Authority::ours().0.client());
    ways().spawn(async move {
        let listener = TcpSocket::new_v4().expect("a socket");
        listener.set_send_buffer_size(BUFFER_BYTES).expect("the kernel does it");
        listener.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let listener = listener.listen(1_024).expect("it listens");
        sender.send(listener.local_addr().expect("it listens").port()).expect("it is waited for");
        while let Ok((client, _)) = listener.accept().await {
            let (connector, target) = (connector.clone(), target.load(Ordering::SeqCst));
            tokio::spawn(async move {
                // A node that is gone closes the client's connection.
                let _ = lead(client, target, connector).await;
            });
        }
    });
    port.recv().expect("the way is opened")
}

async fn lead(mut client: TcpStream, target: u16, connector: TlsConnector) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let node = TcpSocket::new_v4()?;
    node.set_recv_buffer_size(BUFFER_BYTES)?;
    let node = node.connect((Ipv4Addr::LOCALHOST, target).into()).await?;
    node.set_nodelay(true)?;
    let name = ServerName::try_from(NAME).expect("it is a name");
    let mut node = connector.connect(name, node).await?;
    tokio::io::copy_bidirectional(&mut client, &mut node).await.map(drop)
}
