//! Secrets that nobody had to configure: made at first start, kept in the data directory.
//!
//! Start-up code: it reads and writes files, and nothing else here does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rand::TryRng as _;
use rand::rngs::SysRng;

use super::keys::Form;
use super::sources::{Document, read_open, read_text};
use super::{Config, ConfigError, Secret};

/// The file in the data directory.
const FILE_NAME: &str = "keys.toml";
/// Random bytes of each secret; it is written as twice as many hexadecimal digits.
const SECRET_BYTES: usize = 32;

/// The secrets in effect.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Of backends and administrators.
    pub api_key: Secret,
    /// Of clients that have no user.
    pub anon_key: Secret,
    /// Of HS256 tokens.
    pub jwt_secret: Secret,
    /// Whether this start made the file.
    pub created: bool,
    /// The file.
    pub path: PathBuf,
}

/// Makes the data directory (mode 0700) if it is missing, and in it `keys.toml` (mode 0600) with
/// random secrets; later starts read it. What is configured wins over the file; where everything
/// is, the file is neither made nor read. Two nodes that start at once agree on one file.
pub fn ensure(data_dir: &Path, config: &Config) -> Result<Secrets, ConfigError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|error| ConfigError::file(data_dir, format!("cannot be created: {error}")))?;
    let path = data_dir.join(FILE_NAME);
    let auth = &config.auth;
    if let (Some(api_key), Some(anon_key), Some(jwt_secret)) =
        (auth.api_key.clone(), auth.anon_key.clone(), auth.jwt_secret.clone())
    {
        return Ok(Secrets { api_key, anon_key, jwt_secret, created: false, path });
    }
    let created = create_if_missing(data_dir, &path)
        .map_err(|error| ConfigError::file(&path, format!("cannot be created: {error}")))?;
    let kept = Kept::read(&path)?;
    let or_kept = |configured: &Option<Secret>, kept: Option<Secret>, name| {
        let secret = configured.clone().or(kept);
        secret.ok_or_else(|| ConfigError::file(&path, format!("`{name}` is missing")))
    };
    Ok(Secrets {
        api_key: or_kept(&auth.api_key, kept.api_key, "api_key")?,
        anon_key: or_kept(&auth.anon_key, kept.anon_key, "anon_key")?,
        jwt_secret: or_kept(&auth.jwt_secret, kept.jwt_secret, "jwt_secret")?,
        created,
        path,
    })
}

/// A file of public keys that the configuration names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKeysFile {
    /// The key that names it.
    pub name: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl PublicKeysFile {
    /// The error of a file whose content cannot be used.
    pub fn error(&self, reason: impl ToString) -> ConfigError {
        let path = self.path.clone();
        ConfigError::NamedFile { name: self.name, path, reason: reason.to_string() }
    }
}

/// Reads `auth.public_keys_file`, where it is set.
pub fn public_keys_file(config: &Config) -> Result<Option<PublicKeysFile>, ConfigError> {
    read_named("auth.public_keys_file", config.auth.public_keys_file.as_deref())
}

/// Reads `auth.jwks_file`, where it is set.
pub fn jwks_file(config: &Config) -> Result<Option<PublicKeysFile>, ConfigError> {
    read_named("auth.jwks_file", config.auth.jwks_file.as_deref())
}

fn read_named(
    name: &'static str,
    path: Option<&Path>,
) -> Result<Option<PublicKeysFile>, ConfigError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let mut file = PublicKeysFile { name, path: path.to_owned(), text: String::new() };
    file.text = read_text(path).map_err(|error| file.error(error))?;
    Ok(Some(file))
}

/// Whether it was made. It appears under its name complete and on disk, or not at all, and an
/// existing one is never touched: a link fails where a rename would replace it.
fn create_if_missing(data_dir: &Path, path: &Path) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    let draft = data_dir.join(format!(".{FILE_NAME}.{}", random_hex()?));
    let linked = write_new(&draft).and_then(|()| fs::hard_link(&draft, path));
    // The draft is scrap now, whatever happened; a leftover is as private as the file itself.
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => File::open(data_dir)?.sync_all().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = format!(
        "# Secrets of this node, made at its first start. Whoever can read them can be anybody.\n\
         api_key = \"ik_{}\"\nanon_key = \"anon_{}\"\njwt_secret = \"{}\"\n",
        random_hex()?,
        random_hex()?,
        random_hex()?,
    );
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn random_hex() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What the file says.
#[derive(Default)]
struct Kept {
    api_key: Option<Secret>,
    anon_key: Option<Secret>,
    jwt_secret: Option<Secret>,
}

impl Kept {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_private(path)?;
        let document = Document::parse(path, &text)?;
        let mut kept = Self::default();
        for (name, line, value) in document.top() {
            let place = || document.place(line);
            let Some((name, form, slot)) = kept.slot(name) else {
                let name = name.to_owned();
                return Err(ConfigError::UnknownKey { place: place(), name, nearest: None });
            };
            let secret = value.as_str().filter(|text| form.fits(text)).ok_or_else(|| {
                let reason = format!("must be {}", form.expected());
                ConfigError::Value { place: place(), name, reason }
            })?;
            *slot = Some(secret.into());
        }
        Ok(kept)
    }

    fn slot(&mut self, name: &str) -> Option<(&'static str, Form, &mut Option<Secret>)> {
        match name {
            "api_key" => Some(("api_key", Form::Key("ik_"), &mut self.api_key)),
            "anon_key" => Some(("anon_key", Form::Key("anon_"), &mut self.anon_key)),
            "jwt_secret" => Some(("jwt_secret", Form::JwtSecret, &mut self.jwt_secret)),
            _ => None,
        }
    }
}

/// Reads a file that nobody but its owner may read. The open file is asked, not its name.
fn read_private(path: &Path) -> Result<String, ConfigError> {
    let fail = |error: io::Error| ConfigError::file(path, error);
    let file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let reason = format!(
            "holds secrets and is open to others (mode {mode:04o}); run `chmod 600 {}`",
            path.display()
        );
        return Err(ConfigError::file(path, reason));
    }
    read_open(&file).map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Arguments;

    fn configured(env: &[(&str, String)]) -> Config {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Config::load(&Arguments::default(), env).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// Writes a private `keys.toml` into a fresh directory.
    fn kept(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        dir
    }

    fn error(dir: &Path) -> String {
        let error = ensure(dir, &Config::defaults()).unwrap_err().to_string();
        error.replace(&format!("{}/", dir.display()), "")
    }

    #[test]
    fn the_first_start_makes_them_and_the_next_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let first = ensure(&data_dir, &Config::defaults()).unwrap();
        assert!(first.created);
        assert_eq!(first.path, data_dir.join("keys.toml"));
        assert_eq!((mode(&data_dir), mode(&first.path)), (0o700, 0o600));
        assert!(Form::Key("ik_").fits(first.api_key.expose()));
        assert!(Form::Key("anon_").fits(first.anon_key.expose()));
        assert_eq!(first.jwt_secret.expose().len(), 64);
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "no draft is left");

        let second = ensure(&data_dir, &Config::defaults()).unwrap();
        assert!(!second.created);
        assert_eq!(second.api_key, first.api_key);
        assert_eq!(second.anon_key, first.anon_key);
        assert_eq!(second.jwt_secret, first.jwt_secret);
        assert!(!format!("{first:?}").contains(first.jwt_secret.expose()));

        let elsewhere = ensure(&dir.path().join("c"), &Config::defaults()).unwrap();
        assert_ne!(elsewhere.api_key, first.api_key);
        assert_ne!(elsewhere.api_key.expose()[3..], elsewhere.anon_key.expose()[5..]);
    }

    #[test]
    fn what_is_configured_wins() {
        let dir = tempfile::tempdir().unwrap();
        let api_key = format!("ik_{}", "0c".repeat(32));
        let anon_key = format!("anon_{}", "0d".repeat(32));
        let config = configured(&[("FANFARE_API_KEY", api_key.clone())]);
        let secrets = ensure(dir.path(), &config).unwrap();
        assert_eq!(secrets.api_key.expose(), api_key);
        let file = ensure(dir.path(), &Config::defaults()).unwrap();
        assert_ne!(file.api_key.expose(), api_key);
        assert_eq!(file.jwt_secret, secrets.jwt_secret);

        let empty = tempfile::tempdir().unwrap();
        let config = configured(&[
            ("FANFARE_API_KEY", api_key),
            ("FANFARE_ANON_KEY", anon_key.clone()),
            ("FANFARE_JWT_SECRET", "s".repeat(32)),
        ]);
        let secrets = ensure(empty.path(), &config).unwrap();
        assert_eq!(secrets.anon_key.expose(), anon_key);
        assert!(!secrets.created && !secrets.path.exists());
    }

    #[test]
    fn starts_at_the_same_time_agree() {
        let dir = tempfile::tempdir().unwrap();
        let barrier = std::sync::Barrier::new(8);
        let all: Vec<Secrets> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                ensure(dir.path(), &Config::defaults()).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let keys: HashSet<&str> = all.iter().map(|secrets| secrets.api_key.expose()).collect();
        assert_eq!(keys.len(), 1);
        assert_eq!(all.iter().filter(|secrets| secrets.created).count(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let dir = kept("mine");
        let path = dir.path().join(FILE_NAME);
        // A dangling link is a name that is taken although nothing seems to exist there.
        let link = dir.path().join("link");
        symlink(dir.path().join("nowhere"), &link).unwrap();
        assert!(!create_if_missing(dir.path(), &link).unwrap());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            let dir = kept("");
            let path = dir.path().join(FILE_NAME);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let expected = format!(
                "keys.toml: holds secrets and is open to others (mode {mode:04o}); run \
                 `chmod 600 keys.toml`"
            );
            assert_eq!(error(dir.path()), expected);
        }
    }

    #[test]
    fn broken_files_are_explained_without_being_quoted() {
        let api_key = format!("api_key = 'ik_{}'", "ab".repeat(32));
        let cases = [
            (String::new(), "keys.toml: `api_key` is missing"),
            (api_key.clone(), "keys.toml: `anon_key` is missing"),
            (format!("\n{api_key}\nextra = 1"), "keys.toml:3: unknown key `extra`"),
            (
                "api_key = 'ik_hunter2'".to_owned(),
                "keys.toml:1: `api_key` must be `ik_` and 64 hexadecimal digits",
            ),
            (
                format!("{api_key}\nanon_key = 1"),
                "keys.toml:2: `anon_key` must be `anon_` and 64 hexadecimal digits",
            ),
            (
                "#\n#\njwt_secret = 'hunter2'".to_owned(),
                "keys.toml:3: `jwt_secret` must be a text of at least 32 bytes",
            ),
            (format!("{api_key}\n{api_key}"), "keys.toml:2: not valid TOML: duplicate key"),
        ];
        for (text, expected) in cases {
            let dir = kept(&text);
            assert_eq!(error(dir.path()), expected, "{text:?}");
            let unchanged = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
            assert_eq!(unchanged, text, "an existing file is never touched");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = ensure(&file, &Config::defaults()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot be created: ", file.display())), "{error}");
    }

    #[test]
    fn files_of_public_keys_are_read_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.pem").display().to_string();
        let config = configured(&[("FANFARE_PUBLIC_KEYS_FILE", path.clone())]);
        assert_eq!(jwks_file(&config), Ok(None));
        let expected =
            format!("`auth.public_keys_file`: {path}: No such file or directory (os error 2)");
        assert_eq!(public_keys_file(&config).unwrap_err().to_string(), expected);
        fs::write(&path, "text").unwrap();
        let file = public_keys_file(&config).unwrap().unwrap();
        assert_eq!(file.text, "text");
        let error = file.error("no PEM block found").to_string();
        assert_eq!(error, format!("`auth.public_keys_file`: {path}: no PEM block found"));
    }
}
