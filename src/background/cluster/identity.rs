//! Who a node is in its cluster: its name, and the cluster that it belonged to at its last start.
//! Both are kept in the data directory, which only one node uses at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cluster::name::NodeName;
use crate::config::Config;
use crate::limits::NODE_NAME_BYTES_MAX;

/// The file with the number that makes the name of a node.
const NODE_FILE: &str = "node-id";
/// The file with the id of the cluster.
const CLUSTER_FILE: &str = "cluster-id";
/// Digits of the node's number.
const NODE_DIGITS: usize = 6;
/// Digits of a cluster's id.
const CLUSTER_DIGITS: usize = 32;
const HOST_FILE: &str = "/proc/sys/kernel/hostname";

/// A file of the data directory that cannot be used.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct IdentityError {
    path: PathBuf,
    problem: String,
}

/// The id of a cluster: a random number in hexadecimal digits. The first node makes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterId(Box<str>);

impl ClusterId {
    /// Makes an id that no other cluster has.
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// Returns the id in `text`, or `None` if no id is written like that.
    pub fn read(text: &str) -> Option<Self> {
        (text.len() == CLUSTER_DIGITS && is_hexadecimal(text)).then(|| Self(text.into()))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the name of this machine; `localhost` if the system does not tell it.
pub fn host() -> String {
    let name = fs::read_to_string(HOST_FILE).unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(64).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Returns the name of the node: as configured, else the host's with a number that is made at the
/// first call and kept in the data directory.
///
/// # Errors
/// If the number cannot be read or written.
pub fn node_name(config: &Config) -> Result<NodeName, IdentityError> {
    if let Some(name) = config.cluster.node.as_deref().and_then(NodeName::read) {
        return Ok(name);
    }
    let path = config.data_dir.join(NODE_FILE);
    let number = match kept(&path, NODE_DIGITS)? {
        Some(number) => number,
        None => {
            let number = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
            keep(&path, &number)?;
            number
        }
    };
    Ok(made_name(&host(), &number))
}

/// Returns the name of the node with this number on this host.
fn made_name(host: &str, number: &str) -> NodeName {
    let host = host.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let most = NODE_NAME_BYTES_MAX - 1 - NODE_DIGITS;
    let host = host.get(..most.min(host.len())).unwrap_or_default();
    let name = format!("{}-{number}", host.trim_matches('-'));
    NodeName::read(&name).expect("it has only letters, digits and hyphens, and few of them")
}

/// Returns the cluster that the node belonged to; `None` if it has not belonged to any.
///
/// # Errors
/// If the file cannot be read.
pub fn cluster_id(data_dir: &Path) -> Result<Option<ClusterId>, IdentityError> {
    let kept = kept(&data_dir.join(CLUSTER_FILE), CLUSTER_DIGITS)?;
    Ok(kept.and_then(|text| ClusterId::read(&text)))
}

/// Remembers the cluster that the node belongs to.
///
/// # Errors
/// If the file cannot be written.
pub fn remember_cluster(data_dir: &Path, id: &ClusterId) -> Result<(), IdentityError> {
    keep(&data_dir.join(CLUSTER_FILE), id.as_str())
}

/// Returns the path of the file with the cluster's id.
pub fn cluster_file(data_dir: &Path) -> PathBuf {
    data_dir.join(CLUSTER_FILE)
}

/// Reads a file of so many hexadecimal digits; `None` if it does not exist.
fn kept(path: &Path, digits: usize) -> Result<Option<String>, IdentityError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(path, format!("cannot be read: {error}"))),
    };
    let text = text.trim();
    if text.len() != digits || !is_hexadecimal(text) {
        let problem = format!("does not hold {digits} hexadecimal digits; remove the file");
        return Err(broken(path, problem));
    }
    Ok(Some(text.to_owned()))
}

/// Writes a file whole or not at all.
fn keep(path: &Path, text: &str) -> Result<(), IdentityError> {
    let draft = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| broken(path, format!("cannot be written: {error}")))
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn broken(path: &Path, problem: String) -> IdentityError {
    IdentityError { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Arguments;

    fn config(data_dir: &Path, env: &[(&str, &str)]) -> Config {
        let data_dir = Some(data_dir.into());
        let arguments = Arguments { data_dir, ..Arguments::default() };
        Config::load(&arguments, env.iter().copied()).unwrap()
    }

    #[test]
    fn a_name_is_made_once_unless_it_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let configured = config(dir.path(), &[("FANFARE_CLUSTER_NODE", "n1")]);
        assert_eq!(node_name(&configured).unwrap().as_str(), "n1");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let plain = config(dir.path(), &[]);
        let made = node_name(&plain).unwrap();
        assert_eq!(node_name(&plain).unwrap(), made);
        let number = fs::read_to_string(dir.path().join(NODE_FILE)).unwrap();
        assert!(made.as_str().ends_with(&format!("-{}", number.trim())));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(node_name(&config(elsewhere.path(), &[])).unwrap(), made);
    }

    #[test]
    fn any_host_makes_a_name() {
        for (host, name) in [
            ("Web-3.example.org", "web-3-example-org-00000a"),
            ("a-host-whose-name-is-much-too-long", "a-host-whose-name-is-much-00000a"),
            ("___", "-00000a"),
            ("", "-00000a"),
        ] {
            assert_eq!(made_name(host, "00000a").as_str(), name);
        }
    }

    #[test]
    fn the_cluster_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cluster_id(dir.path()).unwrap(), None);
        let id = ClusterId::random();
        assert_ne!(id, ClusterId::random());
        remember_cluster(dir.path(), &id).unwrap();
        assert_eq!(cluster_id(dir.path()).unwrap(), Some(id));
        fs::write(cluster_file(dir.path()), "7f3a").unwrap();
        let error = cluster_id(dir.path()).unwrap_err().to_string();
        let end = "cluster-id: does not hold 32 hexadecimal digits; remove the file";
        assert!(error.ends_with(end), "{error}");
        let missing = dir.path().join("missing");
        let error = remember_cluster(&missing, &ClusterId::random()).unwrap_err().to_string();
        assert!(error.contains("cluster-id: cannot be written: "), "{error}");
    }
}
