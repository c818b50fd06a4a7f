//! Expressions that are accepted, refused, true, false and too expensive.

use uuid::Uuid;

use super::*;
use crate::message::{Action, Channel, ChannelOptions, Millis, Role, RuleVersions, WorkerId};

const MADE: Millis = 1_777_136_400_123;

fn question(expressions: &[&str]) -> Question {
    let definition = ChannelDefinition {
        id: Uuid::from_u128(7),
        pattern: "order:*".into(),
        description: None,
        webhook_urls: Some(vec!["https://a.example/\"".into()]),
        enabled: true,
        options: ChannelOptions::default(),
        created_at: MADE,
        updated_at: MADE,
    };
    let credential = Credential {
        id: "alice".into(),
        email: Some("alice@example.com".into()),
        role: Role::Authenticated,
        is_user: true,
        expires_at: None,
    };
    Question {
        worker: WorkerId(0),
        action: Action::Subscribe,
        channel: Channel::from("order:1"),
        credential: Arc::new(credential),
        definition: Arc::new(definition),
        expressions: expressions.iter().map(|one| Box::from(*one)).collect(),
        versions: RuleVersions::default(),
    }
}

fn judge(judge: &Evaluator, expression: &str) -> Judgement {
    judge.judge(&question(&[expression])).0
}

#[test]
fn expressions_are_true_or_not() {
    use Judgement::{Allowed, Denied};
    let table = [
        ("enabled = true", Allowed),
        ("enabled", Allowed),
        ("NOT enabled", Denied),
        ("pattern = 'order:*'", Allowed),
        ("realtime_channels.pattern = 'order:*'", Allowed),
        ("id = '00000000-0000-0000-0000-000000000007'", Allowed),
        ("description IS NULL", Allowed),
        ("description = 'x'", Denied),
        ("description <> 'x'", Denied),
        ("NULL", Denied),
        ("webhook_urls LIKE '[\"https://a.example/%'", Allowed),
        ("created_at = '2026-04-25T17:00:00.123Z' AND updated_at >= created_at", Allowed),
        ("channel_name() = 'order:1'", Allowed),
        ("auth_uid() = 'alice' AND auth_role() = 'authenticated'", Allowed),
        ("auth_email() LIKE '%@example.com'", Allowed),
        ("auth_email() LIKE '%@EXAMPLE.COM'", Denied),
        ("channel_name() NOT LIKE 'order:%'", Denied),
        ("channel_name() LIKE 'order!:%' ESCAPE '!'", Allowed),
        ("channel_name() LIKE NULL", Denied),
        ("channel_name() LIKE 'order:' || '_'", Allowed),
        ("auth_uid() IN ('bob', 'alice')", Allowed),
        ("CASE auth_role() WHEN 'anon' THEN false ELSE true END", Allowed),
        ("true -- for everybody", Allowed),
        ("/* nobody */ false", Denied),
        ("1 = 1 OR 1 / 0", Allowed),
    ];
    let bench = Evaluator::new().unwrap();
    for (expression, expected) in table {
        assert_eq!(bench.check(expression), Ok(()), "{expression}");
        assert_eq!(judge(&bench, expression), expected, "{expression}");
    }
}

#[test]
fn functions_tell_of_who_asks() {
    let bench = Evaluator::new().unwrap();
    let mut anonymous = question(&["auth_uid() IS NULL AND auth_email() IS NULL"]);
    let key = Credential {
        id: "anonymous".into(),
        email: None,
        role: Role::Anon,
        is_user: false,
        expires_at: None,
    };
    assert_eq!(bench.judge(&anonymous), (Judgement::Denied, None));
    anonymous.credential = Arc::new(key);
    assert_eq!(bench.judge(&anonymous), (Judgement::Allowed, None));
}

#[test]
fn one_true_expression_is_enough() {
    let bench = Evaluator::new().unwrap();
    let of = |expressions| bench.judge(&question(expressions)).0;
    assert_eq!(of(&["false", "enabled", "false"]), Judgement::Allowed);
    assert_eq!(of(&["false", "NOT enabled"]), Judgement::Denied);
    assert_eq!(of(&["enabled LIKE 'x'", "enabled"]), Judgement::Allowed);
    assert_eq!(of(&["enabled LIKE 'x'", "false"]), Judgement::Failed);
}

#[test]
fn what_is_not_one_expression_is_refused() {
    let bench = Evaluator::new().unwrap();
    let table = [
        "",
        " ",
        "-- nothing",
        "true)",
        "(true",
        "true) --",
        "true) /*",
        "true /*",
        "true) OR (true",
        "true) IS TRUE --",
        "true), (true",
        "true, true",
        "true; DROP TABLE channels",
        "1; SELECT 1",
        "true;",
        "1 THEN 1 END, CASE WHEN 1",
        "1 THEN 1 END /*",
        "true AS x",
        "*",
        "SELECT true",
        "(SELECT true)",
        "EXISTS (SELECT 1)",
        "VALUES (1)",
        "1 IN (SELECT 1)",
        "1 IN (VALUES (1), (2))",
        "1 IN sqlite_schema",
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)",
        "(SELECT count(*) FROM sqlite_schema)",
        "(SELECT 1 FROM json_each('[1]'))",
        "true FROM sqlite_schema",
        "true UNION SELECT 1",
        "'open",
        "\"pattrn\" = 'x'",
        "pattrn = 'x'",
        "sqlite_schema.name = 'x'",
        "rowid = 1",
        "?",
        "?1 = 'x'",
        ":x IS NULL",
        "@x IS NULL",
        "$x IS NULL",
        "abs(1) = 1",
        "random() > 0",
        "count(*) > 0",
        "row_number() OVER () = 1",
        "load_extension('x')",
        "readfile('/etc/passwd') IS NULL",
        "randomblob(1000000000) IS NULL",
        "zeroblob(1000000000) IS NULL",
        "hex('x') = '78'",
        "printf('%1000000d', 1) = 'x'",
        "sqlite_version() = 'x'",
        "CURRENT_TIMESTAMP > '2000'",
        "datetime() > '2000'",
        "pattern GLOB 'a*'",
        "pattern REGEXP 'a'",
        "pattern MATCH 'a'",
        "webhook_urls ->> 0 = 'x'",
        "auth_uid('x') = 'x'",
        "like('a', 'b', 'c', 'd')",
        "RAISE(ABORT, 'x')",
        "nothing()",
        "true\0",
    ];
    for expression in table {
        assert!(bench.check(expression).is_err(), "{expression}");
    }
    assert_eq!(bench.check("abs(1)").unwrap_err(), "not authorized to use function: abs");
    assert_eq!(bench.check("pattrn = 1").unwrap_err(), "no such column: pattrn");
    let query = bench.check("(SELECT 1)").unwrap_err();
    assert_eq!(query, "an expression cannot hold a query (not authorized)");
}

#[test]
fn what_takes_too_much_fails() {
    let bench = Evaluator::new().unwrap();
    let doubled = "(webhook_urls || webhook_urls)";
    let table = [
        (format!("1 IN ({}2)", "3,".repeat(2_000)), "interrupted"),
        (format!("'' = {}", [doubled; 100].join("||")), "string or blob too big"),
        (format!("{doubled} LIKE '%{}b'", "_".repeat(3_900)), "compares too many"),
        ("channel_name() LIKE 'a\\'".to_owned(), "end with escape"),
        ("enabled LIKE '1'".to_owned(), "takes texts"),
        ("'a' LIKE 'a' ESCAPE 'ab'".to_owned(), "one character"),
    ];
    for (expression, why) in table {
        assert!(expression.len() <= POLICY_EXPRESSION_BYTES_MAX);
        assert_eq!(bench.check(&expression), Ok(()), "{expression}");
        let mut asked = question(&[&expression]);
        let channel = Arc::make_mut(&mut asked.definition);
        channel.webhook_urls = Some(vec!["a".repeat(2_000); 32]);
        let (judgement, failure) = bench.judge(&asked);
        assert_eq!(judgement, Judgement::Failed, "{expression}");
        assert!(failure.as_ref().is_some_and(|found| found.contains(why)), "{failure:?}");
        // The next evaluation has its whole budget.
        assert_eq!(judge(&bench, "enabled"), Judgement::Allowed);
    }
    let deep = format!("{}true", "true OR ".repeat(505));
    assert!(bench.check(&deep).unwrap_err().contains("too large"));
}

#[test]
fn an_expression_may_be_asked_for_ever() {
    let bench = Evaluator::new().unwrap();
    for _ in 0..2 * POLICY_STEPS_MAX {
        assert_eq!(judge(&bench, "channel_name() LIKE 'order:%'"), Judgement::Allowed);
    }
}
