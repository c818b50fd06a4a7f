//! The secrets' file: how it is created, read, completed, inspected and refused.

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
    inspect(&config).map_err(|error| error.to_string().replace(&format!("{}/", dir.display()), ""))
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

/// Returns a file of a release that did not sign webhooks.
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
    // The name of a dangling link is taken, although no file seems to exist there.
    let link = dir.path().join("link");
    symlink(dir.path().join("nowhere"), &link).unwrap();
    assert!(!create_if_missing(dir.path(), &link).unwrap());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no draft is left");
}

#[test]
fn a_file_that_others_can_read_is_closed_to_them() {
    let text = format!("{}\nwebhook_secret = 'whsec_{}'", unsigned(), "0e".repeat(32));
    for open in [0o660, 0o644, 0o604, 0o620, 0o601, 0o2440] {
        let dir = kept(&text);
        let path = dir.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        assert_eq!(inspection(dir.path()), Ok(()));
        assert_eq!(mode(&path), open, "looking changes nothing");
        let secrets = ensure(dir.path(), &Config::defaults()).unwrap();
        assert_eq!(secrets.jwt_secret.expose(), "s".repeat(32));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
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
            "keys.toml:1: `api_key` must be `ik_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`".to_owned(),
        ),
        (
            format!("{api_key}\nanon_key = 1"),
            "keys.toml:2: `anon_key` must be `anon_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`".to_owned(),
        ),
        (
            "#\n#\njwt_secret = 'hunter2'".to_owned(),
            "keys.toml:3: `jwt_secret` must be a text of at least 32 bytes without control characters or blanks at its ends".to_owned(),
        ),
        (
            "webhook_secret = 'hunter2'".to_owned(),
            "keys.toml:1: `webhook_secret` must be `whsec_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`".to_owned(),
        ),
        (format!("{api_key}\n{api_key}"), "keys.toml:2: not valid TOML: duplicate key".to_owned()),
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
        "keys.toml: there are no keys yet; start the node first, or set FANFARE_JWT_SECRET"
    ));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let made = ensure(dir.path(), &config).unwrap();
    assert_eq!(jwt_secret(&config), Ok(made.jwt_secret));
}
