//! The files of the Socket.IO client, in the folder that the configuration names.

use std::io;
use std::path::Path;

use super::sources::{open, read_bytes};
use super::{Config, ConfigError};
use crate::limits::CLIENT_FILE_BYTES_MAX;

/// The names of the files: those that the stock server serves.
pub const CLIENT_FILES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// The configuration key of the folder.
const KEY: &str = "engine_io.client_dir";
/// The first version of the client that speaks Engine.IO 4.
const VERSION_MIN: u32 = 3;
/// The text before the version in the first lines of each script.
const BEFORE_VERSION: &str = "Socket.IO v";
/// Bytes at the start of a script in which the version is looked for.
const HEAD_BYTES: usize = 512;

/// The files of one version of the Socket.IO client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientFiles {
    /// The version, as the scripts say it.
    pub version: String,
    /// The names, among [`CLIENT_FILES`], and the contents of those that the folder has.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// Reads the files in `engine_io.client_dir`; `None` if it is not set. Files that the folder lacks
/// are left out, because older versions have fewer.
///
/// # Errors
/// A file that cannot be read or is too long, and a folder without a script of the client.
pub fn client_files(config: &Config) -> Result<Option<ClientFiles>, ConfigError> {
    let Some(dir) = &config.engine_io.client_dir else { return Ok(None) };
    let fail = |path: &Path, reason| config.path_error(KEY, path, reason);
    let mut files = Vec::new();
    for name in CLIENT_FILES {
        let path = dir.join(name);
        match open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let read = read_bytes(opened, CLIENT_FILE_BYTES_MAX);
                files.push((name, read.map_err(|reason| fail(&path, reason))?));
            }
        }
    }
    let scripts = files.iter().filter(|(name, _)| has_version(name));
    let version = scripts.filter_map(|(_, bytes)| version(bytes)).next();
    let Some(version) = version else {
        return Err(fail(
            dir,
            format!(
                "has no {} of the Socket.IO client: name the folder `dist` of the npm package \
                 socket.io-client",
                CLIENT_FILES[0]
            ),
        ));
    };
    if major(&version).is_none_or(|major| major < VERSION_MIN) {
        let reason =
            format!("has version {version} of the client, which cannot connect: take 3 or 4");
        return Err(fail(dir, reason));
    }
    Ok(Some(ClientFiles { version, files }))
}

fn has_version(name: &str) -> bool {
    !name.ends_with(".map")
}

/// Returns the version that a script says at its start.
fn version(script: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&script[..script.len().min(HEAD_BYTES)]);
    let (_, rest) = head.split_once(BEFORE_VERSION)?;
    let is_part = |c: &char| c.is_ascii_alphanumeric() || ".-+".contains(*c);
    Some(rest.chars().take_while(is_part).collect()).filter(|version: &String| !version.is_empty())
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Arguments;

    const SCRIPT: &[u8] = b"/*!\n * Socket.IO v4.8.4\n * (c)\n */\nlet x;";

    fn read(dir: &Path) -> Result<Option<ClientFiles>, String> {
        let env = std::iter::once(("FANFARE_ENGINE_IO_CLIENT_DIR", dir.display().to_string()));
        let config = Config::load(&Arguments::default(), env).unwrap();
        client_files(&config)
            .map_err(|error| error.to_string().replace(&*dir.to_string_lossy(), "D"))
    }

    #[test]
    fn the_files_of_a_folder_are_read_with_their_version() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in
            [("socket.io.min.js", SCRIPT), ("socket.io.min.js.map", b"{}"), ("other.js", b"x")]
        {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let found = read(dir.path()).unwrap().unwrap();
        assert_eq!(found.version, "4.8.4");
        let files: [(_, Vec<u8>); 2] =
            [("socket.io.min.js", SCRIPT.into()), ("socket.io.min.js.map", b"{}".into())];
        assert_eq!(found.files, files);
        assert_eq!(client_files(&Config::defaults()), Ok(None));
    }

    #[test]
    fn a_folder_that_cannot_be_served_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let start = "environment variable FANFARE_ENGINE_IO_CLIENT_DIR: `engine_io.client_dir`: D";
        let none = format!(
            "{start}: has no socket.io.js of the Socket.IO client: name the folder `dist` of the \
             npm package socket.io-client"
        );
        assert_eq!(read(dir.path()), Err(none.clone()));
        let path = dir.path().join("socket.io.js");
        fs::write(&path, "no version here").unwrap();
        assert_eq!(read(dir.path()), Err(none));
        fs::write(&path, "/*!\n * Socket.IO v2.5.0\n").unwrap();
        let old = "has version 2.5.0 of the client, which cannot connect: take 3 or 4";
        assert_eq!(read(dir.path()), Err(format!("{start}: {old}")));
        fs::write(&path, vec![b' '; CLIENT_FILE_BYTES_MAX as usize + 1]).unwrap();
        let long = format!("{start}/socket.io.js: longer than {CLIENT_FILE_BYTES_MAX} bytes");
        assert_eq!(read(dir.path()), Err(long));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let folder = "cannot be read: Is a directory (os error 21)";
        assert_eq!(read(dir.path()), Err(format!("{start}/socket.io.js: {folder}")));
    }
}
