use std::io::{Read as _, Write as _};

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;

/// Makes certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.0
    }

    /// Returns the PEM of a certificate for these names, and of its key.
    fn pair(&self, names: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, self.issuer()).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    /// Returns a client that trusts this authority.
    fn client(&self, name: &'static str, version: &'static SupportedProtocolVersion) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name).unwrap();
        Client(ClientConnection::new(config.into(), name).unwrap())
    }
}

struct Client(ClientConnection);

impl Client {
    /// Returns what the client sends next.
    fn sends(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Hands bytes to the client. Returns the content that it has received.
    fn takes(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut content = Vec::new();
        while !bytes.is_empty() {
            self.0.read_tls(&mut bytes).unwrap();
            self.0.process_new_packets()?;
            let _ = self.0.reader().read_to_end(&mut content);
        }
        Ok(content)
    }
}

/// Hands the client's bytes to the server in parts of `step` bytes, and the answers back, until
/// neither has more to say. Returns the content that each has received.
fn exchange(
    client: &mut Client,
    server: &mut Tls,
    step: usize,
) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    loop {
        let mut sent = client.sends();
        if sent.is_empty() {
            return Ok((to_server, to_client));
        }
        let mut replies = Vec::new();
        for part in sent.chunks_mut(step) {
            server.open(part, &mut to_server, &mut replies)?;
        }
        to_client.extend(client.takes(&replies).unwrap());
    }
}

fn connected(version: &'static SupportedProtocolVersion) -> (Client, Tls) {
    let authority = Authority::new();
    let terms = Terms::new(&[authority.pair(&["edge.test"])], None, None).unwrap();
    let mut client = authority.client("edge.test", version);
    let mut server = Tls::new(&terms).unwrap();
    exchange(&mut client, &mut server, usize::MAX).unwrap();
    assert!(!server.is_handshaking() && !client.0.is_handshaking());
    (client, server)
}

#[test]
fn content_goes_both_ways_however_it_is_cut() {
    let long: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for version in [&TLS12, &TLS13] {
        for step in [1, 7, 4_099, usize::MAX] {
            let authority = Authority::new();
            let terms = Terms::new(&[authority.pair(&["edge.test"])], None, None).unwrap();
            let mut client = authority.client("edge.test", version);
            let mut server = Tls::new(&terms).unwrap();
            client.0.writer().write_all(b"GET /").unwrap();
            let (received, _) = exchange(&mut client, &mut server, step).unwrap();
            assert_eq!(received, b"GET /");
            // rustls' writer takes 64 KiB at once.
            client.0.writer().write_all(&long[..60_000]).unwrap();
            let (received, _) = exchange(&mut client, &mut server, step).unwrap();
            assert_eq!(received, &long[..60_000]);
            for content in [&long[..1], &long[..RECORD_BYTES_MAX], &long] {
                let mut sealed = Vec::new();
                server.seal(content, &mut sealed).unwrap();
                assert!(sealed.len() <= content.len() + 40 * records(content.len()));
                assert_eq!(client.takes(&sealed).unwrap(), content);
            }
            assert_eq!(server.held_bytes(), 0, "an idle connection has no buffer");
        }
    }
}

#[test]
fn both_sides_may_end() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = connected(version);
        client.0.send_close_notify();
        exchange(&mut client, &mut server, usize::MAX).unwrap();
        assert!(server.is_over() && !server.is_closed());
        let mut sealed = Vec::new();
        server.seal(b"the last", &mut sealed).unwrap();
        server.close(&mut sealed);
        let once = sealed.len();
        server.close(&mut sealed);
        assert_eq!(sealed.len(), once, "it was told already");
        assert_eq!(client.takes(&sealed).unwrap(), b"the last");
        assert_eq!(client.0.reader().read(&mut [0; 1]).unwrap(), 0, "a clean end");
    }
}

#[test]
fn new_keys_of_the_client_are_answered() {
    let (mut client, mut server) = connected(&TLS13);
    for _ in 0..3 {
        client.0.refresh_traffic_keys().unwrap();
        client.0.writer().write_all(b"again").unwrap();
        let (received, _) = exchange(&mut client, &mut server, usize::MAX).unwrap();
        assert_eq!(received, b"again");
        let mut sealed = Vec::new();
        server.seal(b"and again", &mut sealed).unwrap();
        assert_eq!(client.takes(&sealed).unwrap(), b"and again");
    }
}

#[test]
fn content_is_sealed_while_a_message_of_the_handshake_is_incomplete() {
    let authority = Authority::new();
    let terms = Terms::new(&[authority.pair(&["edge.test"])], None, None).unwrap();
    let mut client = authority.client("edge.test", &TLS13);
    let mut server = Tls::new(&terms).unwrap();
    exchange(&mut client, &mut server, usize::MAX).unwrap();
    // The beginning of a record, and of one that is complete up to its last byte.
    client.0.refresh_traffic_keys().unwrap();
    let mut sent = client.sends();
    let mut replies = Vec::new();
    let (start, end) = sent.split_at_mut(9);
    server.open(start, &mut Vec::new(), &mut replies).unwrap();
    let mut sealed = Vec::new();
    server.seal(b"meanwhile", &mut sealed).unwrap();
    assert_eq!(client.takes(&sealed).unwrap(), b"meanwhile");
    server.open(end, &mut Vec::new(), &mut replies).unwrap();
    assert!(client.takes(&replies).unwrap().is_empty());
    // A hello in two records: its beginning alone is a message that is not complete.
    let mut hello = authority.client("edge.test", &TLS13).sends();
    let mut first = vec![22, 3, 1, 0, 20];
    first.extend(hello.drain(5..25));
    let mut new = Tls::new(&terms).unwrap();
    new.open(&mut first, &mut Vec::new(), &mut replies).unwrap();
    assert!(new.seal(b"too early", &mut Vec::new()).is_err());
    new.close(&mut Vec::new());
    let mut rest = vec![22, 3, 1];
    rest.extend(u16::try_from(hello.len() - 5).unwrap().to_be_bytes());
    rest.extend(&hello[5..]);
    let mut replies = Vec::new();
    new.open(&mut rest, &mut Vec::new(), &mut replies).unwrap();
    assert_eq!(replies[0], 22, "it is answered");
}

#[test]
fn a_fault_is_told_in_an_alert_and_ends_the_connection() {
    let (mut client, mut server) = connected(&TLS13);
    client.0.writer().write_all(b"true").unwrap();
    let mut sent = client.sends();
    client.0.writer().write_all(b"forged").unwrap();
    sent.extend(client.sends());
    *sent.last_mut().unwrap() ^= 1;
    let (mut content, mut replies) = (Vec::new(), Vec::new());
    let end = server.open(&mut sent, &mut content, &mut replies);
    assert_eq!(end, Err(TlsError::Broken(rustls::Error::DecryptError)));
    assert_eq!(content, b"true");
    let told = client.takes(&replies).unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
    let mut sealed = Vec::new();
    assert!(server.seal(b"more", &mut sealed).is_err() && sealed.is_empty());
}

#[test]
fn a_client_without_tls_is_noticed() {
    let (_, server) = connected(&TLS13);
    let authority = Authority::new();
    let terms = Terms::new(&[authority.pair(&["edge.test"])], None, None).unwrap();
    let mut new = Tls::new(&terms).unwrap();
    let mut replies = Vec::new();
    let end = new.open(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec(), &mut Vec::new(), &mut replies);
    assert_eq!((end, replies.len()), (Err(TlsError::Plain), 0));
    let mut other = Tls::new(&terms).unwrap();
    let end = other.open(&mut vec![0; 600], &mut Vec::new(), &mut replies);
    assert!(matches!(end, Err(TlsError::Broken(_))), "{end:?}");
    drop(server);
}

#[test]
fn a_client_receives_the_certificate_of_the_name_that_it_asks_for() {
    let authority = Authority::new();
    let pairs = [&["first.test"][..], &["*.wild.test", "wild.test"], &["first.test", "third.test"]]
        .map(|names| authority.pair(names));
    let terms = Terms::new(&pairs, None, None).unwrap();
    let shown = |name| {
        let mut client = authority.client(name, &TLS13);
        let mut server = Tls::new(&terms).unwrap();
        let mut replies = Vec::new();
        server.open(&mut client.sends(), &mut Vec::new(), &mut replies).unwrap();
        let is_right = client.takes(&replies).is_ok();
        (is_right, client.0.peer_certificates().map(|chain| chain[0].clone()))
    };
    use rustls::pki_types::pem::PemObject as _;
    let certificate = |place: usize| CertificateDer::from_pem_slice(&pairs[place].0).unwrap();
    for (name, place) in
        [("first.test", 0), ("a.wild.test", 1), ("wild.test", 1), ("third.test", 2)]
    {
        assert_eq!(shown(name), (true, Some(certificate(place))), "{name}");
    }
    assert!(!shown("unknown.test").0, "the first certificate has another name");
}

#[test]
fn faults_of_files_are_named() {
    let authority = Authority::new();
    let (one, other) = (authority.pair(&["one.test"]), authority.pair(&["other.test"]));
    let fault = |certificate: &[u8], key: &[u8]| {
        let pairs = [one.clone(), (certificate.to_vec(), key.to_vec())];
        Terms::new(&pairs, None, None).map(drop).unwrap_err()
    };
    let swapped = fault(&one.0, &other.1);
    assert!(matches!(swapped, CertificateError::Key(1, _)), "{swapped}");
    assert_eq!(swapped.to_string(), "has the key of another certificate");
    let empty = fault(b"", &one.1);
    assert!(matches!(empty, CertificateError::Certificate(1, _)), "{empty}");
    let no_key = fault(&one.0, &one.0);
    assert!(matches!(no_key, CertificateError::Key(1, _)), "{no_key}");
}
