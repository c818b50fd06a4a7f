//! An authority and its certificates, made for one test.

use std::fs;
use std::path::{Path, PathBuf};

use fanfare::background::cluster::credentials::{Tls, Wish};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// A folder with an authority's certificate, and with those that it signed.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names are valid names");
        // Clients look for an issuer by its name.
        let name = format!("authority {}", rand::random::<u64>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("the provider makes keys");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it can be signed");
        let folder = tempfile::tempdir().expect("a temporary directory for certificates");
        fs::write(folder.path().join("authority.pem"), issuer.pem()).expect("it can be written");
        Self { folder, issuer }
    }

    /// Returns the file with the authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// Signs a certificate for these names, for servers and clients, and returns the files of the
    /// certificate and of its key.
    pub(crate) fn sign(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let file = names.first().cloned().unwrap_or_default();
        let mut params = CertificateParams::new(names).expect("the names are valid");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("the provider makes keys");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        let files = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        fs::write(&files.0, certificate.pem()).expect("it can be written");
        fs::write(&files.1, key.serialize_pem()).expect("it can be written");
        files
    }

    /// Returns settings by which a node trusts this authority alone.
    pub(crate) fn trusted(&self, wish: Wish) -> Tls {
        Tls { wish, authorities: Some(self.file()), own: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}

/// Returns the lines of a server's configuration with a certificate.
pub(crate) fn server_tls((certificate, key): &(PathBuf, PathBuf), more: &str) -> String {
    format!("tls {{\ncert_file: {certificate:?}\nkey_file: {key:?}\n{more}\n}}")
}
