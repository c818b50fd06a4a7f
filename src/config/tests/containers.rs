//! Environments as container platforms make them.

use super::*;
use crate::config::value::Form;

/// Line ends at the end come from `echo` and from mounted files.
#[test]
fn line_ends_behind_a_secret_are_left_out_and_none_inside_is_taken() {
    let is_list = |key: &Key| matches!(key.form(), Form::Keys(_));
    let secrets = KEYS.iter().filter(|key| key.form().is_secret() && !is_list(key));
    let mut names = Vec::new();
    for key in secrets {
        names.push(key.name);
        let good = match key.form() {
            Form::Key(prefix) => format!("{prefix}{}", "0c".repeat(32)),
            Form::Database => "postgres://user:hunter2@db.example.org/app".to_owned(),
            Form::JwtSecret => "a passphrase of several words, not short".to_owned(),
            _ => "hunter2-".repeat(4),
        };
        let plain = Config::load(&Arguments::default(), pairs(&[(key.env, &good)])).unwrap();
        for end in ["\n", "\r\n", "\n\n"] {
            let given = format!("{good}{end}");
            let config = Config::load(&Arguments::default(), pairs(&[(key.env, &given)]));
            assert_eq!(secrets_of(&config.unwrap()), secrets_of(&plain), "{} {end:?}", key.name);
        }
        let (start, rest) = good.split_at(9);
        for wrong in [
            format!("{start}\n{rest}"),
            format!("{start}\u{7f}{rest}"),
            format!("\n{good}"),
            format!(" {good}"),
            format!("{good} "),
            format!("{good} \n"),
            format!("{good}\t"),
        ] {
            let error = from_env(&[(key.env, &wrong)]).expect_err(&wrong);
            let at = format!("environment variable {}: `{}` must be ", key.env, key.name);
            assert!(error.starts_with(&at), "{wrong:?}: {error}");
        }
    }
    let expected = [
        "auth.api_key",
        "auth.anon_key",
        "auth.jwt_secret",
        "webhooks.secret",
        "m2.api_key",
        "cluster.password",
        "cluster.token",
        "postgres.url",
    ];
    assert_eq!(names, expected);
}

fn secrets_of(config: &Config) -> [Option<&str>; 8] {
    let Config { auth, webhooks, m2, cluster, postgres, .. } = config;
    let all = [
        &auth.api_key,
        &auth.anon_key,
        &auth.jwt_secret,
        &webhooks.secret,
        &m2.api_key,
        &cluster.password,
        &cluster.token,
        &postgres.url,
    ];
    all.map(|secret| secret.as_ref().map(Secret::expose))
}

#[test]
fn variables_of_other_containers_are_passed_over() {
    let foreign = [
        ("FANFARE_PORT", "tcp://10.0.0.1:7130"),
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("FANFARE_METRICS_SERVICE_PORT_HTTP", "7130"),
        ("FANFARE_NAME", "/web/fanfare"),
        ("FANFARE_ENV_FANFARE_API_KEY", "hunter2"),
        ("FANFARE_WORKERS", "3"),
    ];
    let config = Config::load(&Arguments::default(), pairs(&foreign)).unwrap();
    assert_eq!(config.workers, 3);
    let error = from_env(&[("FANFARE_ENV_X", "")]).unwrap_err();
    assert_eq!(error, "unknown environment variable `FANFARE_ENV_X`");
    let error = from_env(&[("FANFARE_PORT", "7130")]).unwrap_err();
    let hint = "did you mean `FANFARE_LISTEN`?";
    assert_eq!(error, format!("unknown environment variable `FANFARE_PORT`; {hint}"));
}
