//! Secrets that are not configured: made at the first start and kept in the data directory. In a
//! cluster none is made, because all nodes must have the same: those that are neither configured
//! nor in the data directory are derived from `auth.jwt_secret`.
//!
//! It runs at start only, because it waits for the disk.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rand::TryRng as _;
use rand::rngs::SysRng;
use rustix::fs::{Access, FlockOperation, StatVfsMountFlags, access, flock, fstatvfs};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::error::start_of;
use super::sources::{Document, open, read_open};
use super::value::Raw;
use super::{Config, ConfigError, Key, Secret};

mod shared;

pub(super) use shared::{hexadecimal, mac};

/// The name of the secrets' file in the data directory.
const FILE_NAME: &str = "keys.toml";
/// Random bytes of each secret, which is written as twice as many hexadecimal digits.
const SECRET_BYTES: usize = 32;

/// The keys of the file, and the configuration keys of the same meaning.
const KEPT: [(&str, &str); 4] = [
    ("api_key", "auth.api_key"),
    ("anon_key", "auth.anon_key"),
    ("jwt_secret", "auth.jwt_secret"),
    ("webhook_secret", "webhooks.secret"),
];

/// Where a secret comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The configuration.
    Configured,
    /// `keys.toml` in the data directory.
    File,
    /// It is derived from `auth.jwt_secret`, because the node belongs to a cluster.
    Derived,
}

/// The secrets in effect.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Key of backends and administrators.
    pub api_key: Secret,
    /// Key of clients that have no user.
    pub anon_key: Secret,
    /// Secret of HS256 tokens.
    pub jwt_secret: Secret,
    /// Secret that webhook calls are signed with.
    pub webhook_secret: Secret,
    /// Where they come from, in this order.
    pub origins: [Origin; 4],
    /// Whether this start created the file.
    pub created: bool,
    /// The path of `keys.toml` in the data directory.
    pub path: PathBuf,
}

/// Returns the path of the secrets' file in a data directory.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Creates the data directory (mode 0700) if it is missing, and in it `keys.toml` (mode 0600) with
/// random secrets; later starts read it. Configured secrets win over the file. If all are
/// configured, the file is neither created nor read. A file from before webhooks were signed gets
/// the secret that it lacks. A file that is open to others is closed to them. Two nodes that start
/// at once agree on one file. For a cluster the file is read if it exists, and never made or
/// changed.
///
/// # Errors
/// A directory or file that cannot be created, and every mistake in an existing file.
pub fn ensure(data_dir: &Path, config: &Config) -> Result<Secrets, ConfigError> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|error| {
        config.path_error("data_dir", data_dir, format!("cannot be created: {error}"))
    })?;
    let path = path(data_dir);
    if config.is_clustered() {
        return shared(config, path, close_to_others);
    }
    if are_all_configured(config) {
        return complete(config, config, path, |_| unreachable!("it is configured"));
    }
    let created = create_if_missing(data_dir, &path)
        .map_err(|error| broken(&path, format!("cannot be created: {error}")))?;
    let secrets = complete(&read_kept(&path, close_to_others)?, config, path, add_webhook_secret)?;
    Ok(Secrets { created, ..secrets })
}

/// Checks what [`ensure`] would need and use, and changes nothing.
///
/// # Errors
/// The errors of [`ensure`].
pub fn inspect(config: &Config) -> Result<(), ConfigError> {
    let data_dir = &config.data_dir;
    let is_there = inspect_directory(data_dir)
        .map_err(|reason| config.path_error("data_dir", data_dir, reason))?;
    let path = path(data_dir);
    if config.is_clustered() {
        return shared(config, path, inspect_mode).map(drop);
    }
    // A dangling link counts as a file, because nothing would be created in its place.
    if !is_there || are_all_configured(config) || fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    complete(&read_kept(&path, inspect_mode)?, config, path, inspect_addition).map(drop)
}

/// Returns the secret of HS256 tokens, without creating one.
///
/// # Errors
/// If no secret is configured, and the file is missing or cannot be used.
pub fn jwt_secret(config: &Config) -> Result<Secret, ConfigError> {
    if let Some(secret) = &config.auth.jwt_secret {
        return Ok(secret.clone());
    }
    Ok(existing(config, "FANFARE_JWT_SECRET")?.jwt_secret)
}

/// Returns the API key and the anon key, without creating any.
///
/// # Errors
/// If one of them is not configured, and the file is missing or cannot be used.
pub fn client_keys(config: &Config) -> Result<(Secret, Secret), ConfigError> {
    if let (Some(api_key), Some(anon_key)) = (&config.auth.api_key, &config.auth.anon_key) {
        return Ok((api_key.clone(), anon_key.clone()));
    }
    if config.is_clustered() {
        let secrets = of_cluster(config)?;
        return Ok((secrets.api_key, secrets.anon_key));
    }
    let Secrets { api_key, anon_key, .. } =
        existing(config, "FANFARE_API_KEY and FANFARE_ANON_KEY")?;
    Ok((api_key, anon_key))
}

/// Reads the secrets again while a node runs that keeps its own in `data_dir`, and creates none.
/// The secret of webhooks is empty if there is none.
///
/// # Errors
/// Every mistake in the file, if it is needed.
pub fn read_again(data_dir: &Path, config: &Config) -> Result<Secrets, ConfigError> {
    let path = path(data_dir);
    if config.is_clustered() {
        return shared(config, path, close_to_others);
    }
    let kept = match are_all_configured(config) {
        true => config.clone(),
        false => read_kept(&path, close_to_others)?,
    };
    complete(&kept, config, path, |_| Ok("".into()))
}

/// Returns the secrets in effect except that of webhooks, without creating any. If the file is
/// missing, the error advises to set `variables`.
fn existing(config: &Config, variables: &str) -> Result<Secrets, ConfigError> {
    let path = path(&config.data_dir);
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let reason = format!("there are no keys yet; start the node first, or set {variables}");
        return Err(broken(&path, reason).into());
    }
    complete(&read_kept(&path, inspect_mode)?, config, path, |_| Ok("".into()))
}

/// Returns the secrets of a cluster's node, and changes nothing.
///
/// # Errors
/// If `auth.jwt_secret` is neither configured nor in the file, and every mistake in the file.
pub fn of_cluster(config: &Config) -> Result<Secrets, ConfigError> {
    shared(config, path(&config.data_dir), inspect_mode)
}

fn are_all_configured(config: &Config) -> bool {
    four(config).iter().all(|secret| secret.is_some())
}

/// Returns the secrets that a configuration has, in the order of [`KEPT`].
fn four(config: &Config) -> [&Option<Secret>; 4] {
    let auth = &config.auth;
    [&auth.api_key, &auth.anon_key, &auth.jwt_secret, &config.webhooks.secret]
}

/// Returns the secrets of a cluster's node: as configured, else from the file at `path`, else
/// derived. `close` is called if the file is open to others.
fn shared(config: &Config, path: PathBuf, close: Close) -> Result<Secrets, ConfigError> {
    // A dangling link counts as a file, because its target is missing by mistake.
    let is_needed = !are_all_configured(config) && fs::symlink_metadata(&path).is_ok();
    let kept = if is_needed { read_kept(&path, close)? } else { Config::defaults() };
    let jwt_secret = config.auth.jwt_secret.clone().or(kept.auth.jwt_secret.clone());
    let jwt_secret = jwt_secret.ok_or_else(|| {
        config.mistake(
            "auth.jwt_secret",
            "must be set, because `cluster.nats` is: all nodes of a cluster need the same secret, \
             so that none is made",
        )
    })?;
    let mut origins = [Origin::Configured; 4];
    let mut found = Vec::new();
    let all = KEPT.iter().zip(four(config).into_iter().zip(four(&kept)));
    for (((_, key), (configured, kept)), origin) in all.zip(&mut origins) {
        if configured.is_none() {
            *origin = if kept.is_some() { Origin::File } else { Origin::Derived };
        }
        let prefix = Key::named(key).map_or("", Key::prefix);
        let secret = configured.as_ref().or(kept.as_ref()).cloned();
        found.push(secret.unwrap_or_else(|| shared::derived(&jwt_secret, key, prefix)));
    }
    let [api_key, anon_key, _, webhook_secret] =
        <[Secret; 4]>::try_from(found).expect("there is one for each of the four");
    Ok(Secrets { api_key, anon_key, jwt_secret, webhook_secret, origins, created: false, path })
}

/// Returns whether the data directory exists, or why it cannot be used. If it does not exist, it is
/// the nearest existing directory above it that decides whether it can be created.
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

/// Creates the file unless it exists, and returns whether it did. The file appears under its name
/// complete and on disk, or not at all. An existing file is never touched, because a link fails
/// where a rename would replace it.
fn create_if_missing(data_dir: &Path, path: &Path) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    let draft = data_dir.join(format!(".{FILE_NAME}.{}", random_hex()?));
    let linked = write_new(&draft).and_then(|()| fs::hard_link(&draft, path));
    // The draft is not needed any more, whatever happened; a leftover is as private as the file
    // itself.
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
        "# Secrets of this node, made at its first start. Anyone who can read them can act as any client.\n\
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

/// Appends the secret of webhooks to a file of an earlier release. The file is changed in place, so
/// that it keeps its owner, its mode and its links. A second node waits for the lock and finds what
/// the first has added.
fn add_webhook_secret(path: &Path) -> Result<Secret, String> {
    let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(not_added)?;
    flock(&file, FlockOperation::LockExclusive).map_err(not_added)?;
    let text = read_private(path, close_to_others)?;
    let kept = parse_kept(path, &text).ok();
    if let Some(secret) = kept.and_then(|kept| kept.webhooks.secret) {
        return Ok(secret);
    }
    let secret = format!("whsec_{}", random_hex().map_err(not_added)?);
    let end_of_last = if text.ends_with('\n') { "" } else { "\n" };
    let line = format!("{end_of_last}webhook_secret = \"{secret}\"\n");
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a line would make the file invalid.
        let _ = file.set_len(text.len() as u64);
        not_added(error)
    })?;
    tracing::info!(file = %path.display(), "a secret for signing webhook calls was added");
    Ok((*secret).into())
}

/// Fails if [`add_webhook_secret`] would, and otherwise returns an empty secret.
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

/// Returns the secrets in the file, in their places in a default configuration. `close` is called
/// if the file is open to others.
fn read_kept(path: &Path, close: Close) -> Result<Config, ConfigError> {
    let text = read_private(path, close).map_err(|reason| broken(path, reason))?;
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

/// Returns the configured secrets, and the others from the file at `path`. If nothing else is
/// wrong, `add` makes the secret of webhooks, which files of earlier releases lack.
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
    let origins = four(config).map(|secret| match secret {
        Some(_) => Origin::Configured,
        None => Origin::File,
    });
    Ok(Secrets { api_key, anon_key, jwt_secret, webhook_secret, origins, created: false, path })
}

/// Returns a mistake with the path of its file.
fn broken(path: &Path, reason: impl Display) -> String {
    format!("{}: {reason}", path.display())
}

/// Closes a file to others, or finds out whether that can be done.
type Close = fn(&File, &Path) -> io::Result<()>;

/// Reads a file that only its owner may access. A volume of Kubernetes with `fsGroup` opens it to a
/// group at each start. The mode of the open file counts, because its name may come to mean another
/// file.
fn read_private(path: &Path, close: Close) -> Result<String, String> {
    let fail = |error: io::Error| format!("cannot be read: {error}");
    let file = open(path).map_err(fail)?;
    let found = file.metadata().map_err(fail)?;
    let mode = found.permissions().mode() & 0o7777;
    if found.is_file() && mode & 0o077 != 0 {
        let (at, owner) = (path.display(), found.uid());
        close(&file, path).map_err(|error| {
            format!(
                "holds secrets and is open to others (mode {mode:04o}), and its mode cannot be \
                 changed ({error}); run `chmod 600 {at}` as its owner (user {owner}), or configure \
                 all four secrets, so that the file is not read"
            )
        })?;
    }
    read_open(Ok(file))
}

/// Takes the access of others to a file away.
fn close_to_others(file: &File, path: &Path) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    tracing::warn!(
        file = %path.display(),
        "the file with the secrets was open to others, and its mode is 0600 now; a volume with \
         fsGroup opens it at every start"
    );
    Ok(())
}

/// Fails if [`close_to_others`] would.
fn inspect_mode(file: &File, _path: &Path) -> io::Result<()> {
    if fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Errno::ROFS.into());
    }
    let user = geteuid();
    let may_change = user.is_root() || user.as_raw() == file.metadata()?.uid();
    if may_change { Ok(()) } else { Err(Errno::PERM.into()) }
}

#[cfg(test)]
mod tests;
