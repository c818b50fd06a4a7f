//! Secrets that nobody had to configure: made at first start, kept in the data directory.
//!
//! Start-up code: it reads and writes files, and nothing else here does.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rand::TryRng as _;
use rand::rngs::SysRng;
use rustix::fs::{Access, FlockOperation, access, flock};

use super::error::start_of;
use super::sources::{Document, open, read_open, read_text};
use super::value::Raw;
use super::{Config, ConfigError, Key, Secret};

/// The file in the data directory.
const FILE_NAME: &str = "keys.toml";
/// Random bytes of each secret; it is written as twice as many hexadecimal digits.
const SECRET_BYTES: usize = 32;

/// Its keys, and those of the configuration that say the same.
const KEPT: [(&str, &str); 4] = [
    ("api_key", "auth.api_key"),
    ("anon_key", "auth.anon_key"),
    ("jwt_secret", "auth.jwt_secret"),
    ("webhook_secret", "webhooks.secret"),
];

/// The secrets in effect.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Of backends and administrators.
    pub api_key: Secret,
    /// Of clients that have no user.
    pub anon_key: Secret,
    /// Of HS256 tokens.
    pub jwt_secret: Secret,
    /// Of webhook calls.
    pub webhook_secret: Secret,
    /// Whether this start made the file.
    pub created: bool,
    /// The file.
    pub path: PathBuf,
}

/// Where the secrets of a node with this data directory are kept.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Makes the data directory (mode 0700) if it is missing, and in it `keys.toml` (mode 0600) with
/// random secrets; later starts read it. What is configured wins over the file; where everything
/// is, the file is neither made nor read. A file from before webhooks were signed gets the secret
/// that it lacks. Two nodes that start at once agree on one file.
///
/// # Errors
/// A directory or file that cannot be made, and whatever is wrong with an existing file.
pub fn ensure(data_dir: &Path, config: &Config) -> Result<Secrets, ConfigError> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|error| {
        named(config, "data_dir", data_dir, format!("cannot be created: {error}"))
    })?;
    let path = path(data_dir);
    if are_all_configured(config) {
        return complete(config, config, path, |_| unreachable!("it is configured"));
    }
    let created = create_if_missing(data_dir, &path)
        .map_err(|error| broken(&path, format!("cannot be created: {error}")))?;
    let secrets = complete(&read_kept(&path)?, config, path, add_webhook_secret)?;
    Ok(Secrets { created, ..secrets })
}

/// Looks at what [`ensure`] would need and use, and changes nothing.
///
/// # Errors
/// What [`ensure`] would fail for.
pub fn inspect(config: &Config) -> Result<(), ConfigError> {
    let data_dir = &config.data_dir;
    let is_there = inspect_directory(data_dir)
        .map_err(|reason| named(config, "data_dir", data_dir, reason))?;
    let path = path(data_dir);
    // A link to nowhere is there, too: nothing would be made in its place.
    if !is_there || are_all_configured(config) || fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    complete(&read_kept(&path)?, config, path, inspect_addition).map(drop)
}

/// The secret of HS256 tokens, without making one.
///
/// # Errors
/// None is configured, and none was made yet or can be read.
pub fn jwt_secret(config: &Config) -> Result<Secret, ConfigError> {
    if let Some(secret) = &config.auth.jwt_secret {
        return Ok(secret.clone());
    }
    let path = path(&config.data_dir);
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let reason = "no keys are there yet; start the node first, or set FANFARE_JWT_SECRET";
        return Err(broken(&path, reason).into());
    }
    // A token needs no webhooks.
    Ok(complete(&read_kept(&path)?, config, path, |_| Ok("".into()))?.jwt_secret)
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
    pub fn error(&self, config: &Config, reason: impl ToString) -> ConfigError {
        named(config, self.name, &self.path, reason.to_string())
    }
}

/// Reads `auth.public_keys_file`, where it is set.
///
/// # Errors
/// A file that cannot be read.
pub fn public_keys_file(config: &Config) -> Result<Option<PublicKeysFile>, ConfigError> {
    read_named(config, "auth.public_keys_file", config.auth.public_keys_file.as_deref())
}

/// Reads `auth.jwks_file`, where it is set.
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
    let text = read_text(path).map_err(|reason| named(config, name, path, reason))?;
    Ok(Some(PublicKeysFile { name, path: path.to_owned(), text }))
}

fn are_all_configured(config: &Config) -> bool {
    let auth = &config.auth;
    [&auth.api_key, &auth.anon_key, &auth.jwt_secret, &config.webhooks.secret]
        .iter()
        .all(|secret| secret.is_some())
}

/// The error of a file or directory that a key names.
fn named(config: &Config, name: &'static str, path: &Path, reason: String) -> ConfigError {
    format!("{}: `{name}`: {}: {reason}", config.place(name), path.display()).into()
}

/// Whether the data directory exists, or why it cannot be used or made: then it is up to the
/// nearest directory above it that does exist.
fn inspect_directory(data_dir: &Path) -> Result<bool, String> {
    for dir in data_dir.ancestors() {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match fs::metadata(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound && !dir.is_symlink() => continue,
            Err(error) => return Err(format!("cannot be used: {error}")),
            Ok(found) if !found.is_dir() => return Err("is not a directory".to_owned()),
            Ok(_) => {}
        }
        let is_there = dir == data_dir;
        let what = if is_there { "cannot be written to" } else { "cannot be created" };
        access(dir, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|errno| format!("{what}: {}", io::Error::from(errno)))?;
        return Ok(is_there);
    }
    Ok(false)
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
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let text = format!(
        "# Secrets of this node, made at its first start. Whoever can read them can be anybody.\n\
         api_key = \"ik_{}\"\nanon_key = \"anon_{}\"\njwt_secret = \"{}\"\n\
         webhook_secret = \"whsec_{}\"\n",
        random_hex()?,
        random_hex()?,
        random_hex()?,
        random_hex()?,
    );
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Writes the secret of webhooks behind what a file of an earlier release holds, in place, so that
/// it keeps its owner, its mode and its links. Whoever comes second finds what the first has added.
fn add_webhook_secret(path: &Path) -> Result<Secret, String> {
    let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(not_added)?;
    flock(&file, FlockOperation::LockExclusive).map_err(not_added)?;
    let text = read_private(path)?;
    let kept = parse_kept(path, &text).ok();
    if let Some(secret) = kept.and_then(|kept| kept.webhooks.secret) {
        return Ok(secret);
    }
    let secret = format!("whsec_{}", random_hex().map_err(not_added)?);
    let end_of_last = if text.ends_with('\n') { "" } else { "\n" };
    let line = format!("{end_of_last}webhook_secret = \"{secret}\"\n");
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half of a line would be a mistake in the file.
        let _ = file.set_len(text.len() as u64);
        not_added(error)
    })?;
    tracing::info!(file = %path.display(), "a secret for signing webhook calls was added");
    Ok((*secret).into())
}

/// What [`add_webhook_secret`] would fail for, and no secret.
fn inspect_addition(path: &Path) -> Result<Secret, String> {
    access(path, Access::WRITE_OK).map_err(not_added)?;
    Ok("".into())
}

fn not_added(error: impl Into<io::Error>) -> String {
    let error = error.into();
    format!("`webhook_secret` is missing and cannot be added ({error}); add it, or configure it")
}

fn random_hex() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns what the file says, in its places in an otherwise empty configuration.
fn read_kept(path: &Path) -> Result<Config, ConfigError> {
    let text = read_private(path).map_err(|reason| broken(path, reason))?;
    parse_kept(path, &text)
}

fn parse_kept(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let document = Document::parse(path, text)?;
    let mut kept = Config::defaults();
    let mut mistakes = Vec::new();
    for (name, line, value) in document.top() {
        let place = document.place(line);
        let key = KEPT.iter().find(|(kept, _)| *kept == name);
        let Some(key) = key.and_then(|(_, key)| Key::named(key)) else {
            mistakes.push(format!("{place}: unknown key `{}`", start_of(name)));
            continue;
        };
        if let Err(reason) = key.set(&mut kept, Raw::Toml(value)) {
            mistakes.push(format!("{place}: `{name}` {reason}"));
        }
    }
    ConfigError::of(mistakes)?;
    Ok(kept)
}

/// Returns what is configured, and the rest from the file at `path`. `add` makes the secret of
/// webhooks, which files of earlier releases lack, once nothing else is wrong.
fn complete(
    kept: &Config,
    config: &Config,
    path: PathBuf,
    add: impl FnOnce(&Path) -> Result<Secret, String>,
) -> Result<Secrets, ConfigError> {
    let mut missing = Vec::new();
    let mut either = |configured: &Option<Secret>, kept: &Option<Secret>, name| {
        let secret = configured.as_ref().or(kept.as_ref());
        secret.cloned().unwrap_or_else(|| {
            let reason = format!(
                "`{name}` is missing; add it, or move the file away for the next start to make \
                 new keys"
            );
            missing.push(broken(&path, reason));
            "".into()
        })
    };
    let api_key = either(&config.auth.api_key, &kept.auth.api_key, "api_key");
    let anon_key = either(&config.auth.anon_key, &kept.auth.anon_key, "anon_key");
    let jwt_secret = either(&config.auth.jwt_secret, &kept.auth.jwt_secret, "jwt_secret");
    ConfigError::of(missing)?;
    let webhook_secret = match config.webhooks.secret.as_ref().or(kept.webhooks.secret.as_ref()) {
        Some(secret) => secret.clone(),
        None => add(&path).map_err(|reason| broken(&path, reason))?,
    };
    Ok(Secrets { api_key, anon_key, jwt_secret, webhook_secret, created: false, path })
}

/// Says what is wrong with a file.
fn broken(path: &Path, reason: impl Display) -> String {
    format!("{}: {reason}", path.display())
}

/// Reads a file that nobody but its owner may read. The open file is asked, not its name.
fn read_private(path: &Path) -> Result<String, String> {
    let fail = |error: io::Error| format!("cannot be read: {error}");
    let file = open(path).map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    let mode = found.permissions().mode() & 0o7777;
    if found.is_file() && mode & 0o077 != 0 {
        return Err(format!(
            "holds secrets and is open to others (mode {mode:04o}); run `chmod 600 {}`",
            path.display()
        ));
    }
    read_open(Ok(file))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Arguments;
    use crate::config::value::Form;

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

    fn inspection(dir: &Path) -> Result<(), String> {
        let config = Config { data_dir: dir.to_owned(), ..Config::defaults() };
        inspect(&config)
            .map_err(|error| error.to_string().replace(&format!("{}/", dir.display()), ""))
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
        assert!(Form::Key("whsec_").fits(first.webhook_secret.expose()));
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "no draft is left");

        let second = ensure(&data_dir, &Config::defaults()).unwrap();
        assert!(!second.created);
        assert_eq!(second.api_key, first.api_key);
        assert_eq!(second.anon_key, first.anon_key);
        assert_eq!(second.jwt_secret, first.jwt_secret);
        assert_eq!(second.webhook_secret, first.webhook_secret);
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
            ("FANFARE_WEBHOOKS_SECRET", format!("whsec_{}", "0e".repeat(32))),
        ]);
        let secrets = ensure(empty.path(), &config).unwrap();
        assert_eq!(secrets.anon_key.expose(), anon_key);
        assert_eq!(secrets.webhook_secret.expose(), format!("whsec_{}", "0e".repeat(32)));
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

    /// What an earlier release wrote.
    fn unsigned() -> String {
        format!(
            "# Mine.\napi_key = 'ik_{}'\nanon_key = 'anon_{}'\njwt_secret = '{}'",
            "ab".repeat(32),
            "cd".repeat(32),
            "s".repeat(32)
        )
    }

    #[test]
    fn a_file_of_an_earlier_release_gets_the_secret_of_webhooks() {
        let dir = kept(&unsigned());
        let path = dir.path().join(FILE_NAME);
        assert_eq!(inspection(dir.path()), Ok(()));
        let config = Config { data_dir: dir.path().to_owned(), ..Config::defaults() };
        assert_eq!(jwt_secret(&config).unwrap().expose(), "s".repeat(32));
        assert_eq!(fs::read_to_string(&path).unwrap(), unsigned(), "nothing is added by looking");

        let barrier = std::sync::Barrier::new(8);
        let all: Vec<Secrets> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                ensure(dir.path(), &Config::defaults()).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let secret = all[0].webhook_secret.expose();
        assert!(all.iter().all(|secrets| secrets.webhook_secret.expose() == secret));
        assert!(all.iter().all(|secrets| !secrets.created));
        let expected = format!("{}\nwebhook_secret = \"{secret}\"\n", unsigned());
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!((mode(&path), fs::read_dir(dir.path()).unwrap().count()), (0o600, 1));
    }

    #[test]
    fn a_file_is_left_alone_where_the_secret_of_webhooks_is_configured() {
        let dir = kept(&unsigned());
        let secret = format!("whsec_{}", "0e".repeat(32));
        let config = configured(&[("FANFARE_WEBHOOKS_SECRET", secret.clone())]);
        assert_eq!(ensure(dir.path(), &config).unwrap().webhook_secret.expose(), secret);
        assert_eq!(fs::read_to_string(dir.path().join(FILE_NAME)).unwrap(), unsigned());
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
        let missing = |names: &[&str]| {
            let line = |name: &&str| {
                format!(
                    "keys.toml: `{name}` is missing; add it, or move the file away for the next \
                     start to make new keys"
                )
            };
            names.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        let cases = [
            (String::new(), missing(&["api_key", "anon_key", "jwt_secret"])),
            (api_key.clone(), missing(&["anon_key", "jwt_secret"])),
            (format!("\n{api_key}\nextra = 1"), "keys.toml:3: unknown key `extra`".to_owned()),
            (
                "api_key = 'ik_hunter2'".to_owned(),
                "keys.toml:1: `api_key` must be `ik_` and 64 hexadecimal digits".to_owned(),
            ),
            (
                format!("{api_key}\nanon_key = 1"),
                "keys.toml:2: `anon_key` must be `anon_` and 64 hexadecimal digits".to_owned(),
            ),
            (
                "#\n#\njwt_secret = 'hunter2'".to_owned(),
                "keys.toml:3: `jwt_secret` must be a text of at least 32 bytes".to_owned(),
            ),
            (
                "webhook_secret = 'hunter2'".to_owned(),
                "keys.toml:1: `webhook_secret` must be `whsec_` and 64 hexadecimal digits"
                    .to_owned(),
            ),
            (
                format!("{api_key}\n{api_key}"),
                "keys.toml:2: not valid TOML: duplicate key".to_owned(),
            ),
        ];
        for (text, expected) in cases {
            let dir = kept(&text);
            assert_eq!(error(dir.path()), expected, "{text:?}");
            assert_eq!(inspection(dir.path()), Err(expected), "{text:?}");
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
        let expected = format!("default: `data_dir`: {}: cannot be created: ", file.display());
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn files_of_public_keys_are_read_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.pem").display().to_string();
        let config = configured(&[("FANFARE_PUBLIC_KEYS_FILE", path.clone())]);
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

    #[test]
    fn an_inspection_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(inspection(dir.path()), Ok(()));
        assert_eq!(inspection(&dir.path().join("a/b")), Ok(()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        fs::write(dir.path().join("file"), "").unwrap();
        let file = dir.path().join("file");
        let start = format!("default: `data_dir`: {}", file.display());
        assert_eq!(inspection(&file), Err(format!("{start}: is not a directory")));
        let below = inspection(&file.join("below")).unwrap_err();
        assert!(below.ends_with("cannot be used: Not a directory (os error 20)"), "{below}");
        symlink(dir.path().join("nowhere"), dir.path().join("link")).unwrap();
        let link = inspection(&dir.path().join("link")).unwrap_err();
        assert!(link.ends_with("cannot be used: No such file or directory (os error 2)"), "{link}");
        symlink(dir.path().join("nowhere"), dir.path().join(FILE_NAME)).unwrap();
        let keys = inspection(dir.path()).unwrap_err();
        assert_eq!(keys, "keys.toml: cannot be read: No such file or directory (os error 2)");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_token_needs_no_more_than_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        let configured = configured(&[("FANFARE_JWT_SECRET", "s".repeat(32))]);
        assert_eq!(jwt_secret(&configured).unwrap().expose(), "s".repeat(32));
        let config = Config { data_dir: dir.path().to_owned(), ..Config::defaults() };
        let error = jwt_secret(&config).unwrap_err().to_string();
        assert!(error.ends_with(
            "keys.toml: no keys are there yet; start the node first, or set FANFARE_JWT_SECRET"
        ));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let made = ensure(dir.path(), &config).unwrap();
        assert_eq!(jwt_secret(&config), Ok(made.jwt_secret));
    }
}
