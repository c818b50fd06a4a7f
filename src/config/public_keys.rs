//! Files of public keys, which the configuration names.

use std::path::{Path, PathBuf};

use super::sources::read_text;
use super::{Config, ConfigError};

/// A file of public keys that the configuration names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKeysFile {
    /// The configuration key that names it.
    pub name: &'static str,
    /// The path of the file, for error texts.
    pub path: PathBuf,
    /// The content of the file.
    pub text: String,
}

impl PublicKeysFile {
    /// Returns the error of a file whose content cannot be used.
    pub fn error(&self, config: &Config, reason: impl ToString) -> ConfigError {
        config.path_error(self.name, &self.path, reason.to_string())
    }
}

/// Reads `auth.public_keys_file`; `None` if it is not set.
///
/// # Errors
/// A file that cannot be read.
pub fn public_keys_file(config: &Config) -> Result<Option<PublicKeysFile>, ConfigError> {
    read_named(config, "auth.public_keys_file", config.auth.public_keys_file.as_deref())
}

/// Reads `auth.jwks_file`; `None` if it is not set.
///
/// # Errors
/// A file that cannot be read.
pub fn jwks_file(config: &Config) -> Result<Option<PublicKeysFile>, ConfigError> {
    read_named(config, "auth.jwks_file", config.auth.jwks_file.as_deref())
}

fn read_named(
    config: &Config,
    name: &'static str,
    path: Option<&Path>,
) -> Result<Option<PublicKeysFile>, ConfigError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let text = read_text(path).map_err(|reason| config.path_error(name, path, reason))?;
    Ok(Some(PublicKeysFile { name, path: path.to_owned(), text }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Arguments;

    #[test]
    fn files_of_public_keys_are_read_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.pem").display().to_string();
        let env = std::iter::once(("FANFARE_PUBLIC_KEYS_FILE", path.clone()));
        let config = Config::load(&Arguments::default(), env).unwrap();
        assert_eq!(jwks_file(&config), Ok(None));
        let start = format!(
            "environment variable FANFARE_PUBLIC_KEYS_FILE: `auth.public_keys_file`: {path}: "
        );
        assert_eq!(
            public_keys_file(&config).unwrap_err().to_string(),
            format!("{start}cannot be read: No such file or directory (os error 2)")
        );
        fs::write(&path, "text").unwrap();
        let file = public_keys_file(&config).unwrap().unwrap();
        assert_eq!(file.text, "text");
        let error = file.error(&config, "no PEM block found").to_string();
        assert_eq!(error, format!("{start}no PEM block found"));
    }
}
