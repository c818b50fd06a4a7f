//! REST calls that read and set policies, in the same JSON shape.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::interface::http::HttpContext;
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, Reply};
use crate::limits::{
    POLICIES_MAX, POLICY_EXPRESSION_BYTES_MAX, POLICY_NAME_BYTES_MAX, POLICY_ROLES_MAX,
};
use crate::mailbox::{Changed, Wish};
use crate::message::{Action, Permissions, Policy, PolicyCommand};

/// Parses the body of `PUT /api/realtime/permissions`. A side that is left out has no policies. The
/// expressions of policies are checked later, before the store replaces the policies.
///
/// # Errors
/// 400 with all issues. Unknown keys are errors: a misspelt condition must not count as absent.
pub(super) fn parse(body: &[u8]) -> Result<Permissions, ApiError> {
    let sides = fields::strict_body(body, &Action::ALL.map(Action::name))?;
    let mut permissions = Permissions::default();
    let issues = Action::ALL.into_iter().zip(sides).map(|(action, side)| {
        let read = side.map_or(Ok(Vec::new()), |side| read_side(action, side));
        read.map(|policies| *permissions.side_mut(action) = policies).err()
    });
    let issues: Vec<String> = issues.flatten().collect();
    if issues.is_empty() { Ok(permissions) } else { Err(fields::refuse([Some(issues.join(", "))])) }
}

/// Has the store replace the policies.
pub(super) async fn set(
    http: &HttpContext<'_>,
    permissions: Permissions,
) -> Result<Reply, ApiError> {
    let permitted = http.wish(|ticket| Wish::Permit(ticket, permissions)).await?;
    permitted
        .map(|Changed { now, unconfirmed }| Reply::permissions(&now).unconfirmed_by(&unconfirmed))
        .map_err(ApiError::from)
}

impl Reply {
    /// Returns 200 with all policies in the given order. Callers expect them sorted by name.
    pub fn permissions(permissions: &Permissions) -> Self {
        let side = |action| SideJson {
            policies: permissions
                .side(action)
                .iter()
                .map(|policy| PolicyJson::new(action, policy))
                .collect(),
        };
        let (subscribe, publish) = (side(Action::Subscribe), side(Action::Publish));
        Self::json(200, &PermissionsJson { subscribe, publish })
    }
}

const FIELDS: [&str; 6] = ["policyName", "tableName", "command", "roles", "using", "withCheck"];

fn read_side(action: Action, side: &RawValue) -> Read<Vec<Policy>> {
    let path = format!("{}.policies", action.name());
    let [policies] = fields::strict_object(action.name(), side, &["policies"])?;
    let items = fields::list(&path, fields::required(&path, policies)?, POLICIES_MAX)?;
    let mut policies: Vec<Policy> = Vec::with_capacity(items.len());
    let (mut names, mut issues) = (HashSet::new(), Vec::new());
    for (at, item) in items.into_iter().enumerate() {
        match read_policy(action, &format!("{path}.{at}"), item) {
            Ok(policy) if names.insert(policy.name.clone()) => policies.push(policy),
            Ok(_) => issues.push(format!("{path}.{at}.policyName: Another policy has this name")),
            Err(issue) => issues.push(issue),
        }
    }
    if issues.is_empty() { Ok(policies) } else { Err(issues.join(", ")) }
}

fn read_policy(action: Action, path: &str, item: &RawValue) -> Read<Policy> {
    let [name, table, command, roles, using, with_check] =
        fields::strict_object(path, item, &FIELDS)?;
    let at = |field: &str| format!("{path}.{field}");
    let read = (
        fields::required(&at("policyName"), name)
            .and_then(|name| fields::nonempty(&at("policyName"), name, POLICY_NAME_BYTES_MAX)),
        table.map_or(Ok(()), |table| check_table(action, &at("tableName"), table)),
        command.map_or(Ok(action.command()), |one| read_command(action, &at("command"), one)),
        fields::required(&at("roles"), roles).and_then(|roles| read_roles(&at("roles"), roles)),
        read_expression(&at("using"), using),
        read_expression(&at("withCheck"), with_check),
    );
    let (Ok(name), Ok(()), Ok(command), Ok(roles), Ok(using), Ok(with_check)) = read else {
        let (name, table, command, roles, using, with_check) = read;
        let issues = [name.err(), table.err(), command.err(), roles.err(), using.err()];
        let issues: Vec<String> = issues.into_iter().chain([with_check.err()]).flatten().collect();
        return Err(issues.join(", "));
    };
    let unused = match command {
        PolicyCommand::All => None,
        PolicyCommand::Select => with_check.as_ref().map(|_| at("withCheck")),
        PolicyCommand::Insert => using.as_ref().map(|_| at("using")),
    };
    if let Some(unused) = unused {
        // The expression would be stored but never evaluated.
        return Err(format!("{unused}: Expected null for the command {}", command.name()));
    }
    Ok(Policy { name: name.into(), command, roles, using, with_check })
}

fn check_table(action: Action, path: &str, value: &RawValue) -> Read<()> {
    let expected = table(action);
    if fields::text(path, value, usize::MAX)? != expected {
        return Err(format!("{path}: Invalid literal value, expected \"{expected}\""));
    }
    Ok(())
}

fn read_command(action: Action, path: &str, value: &RawValue) -> Read<PolicyCommand> {
    let commands = [action.command(), PolicyCommand::All];
    let at = fields::choice(path, value, &commands.map(PolicyCommand::name))?;
    Ok(commands[at])
}

fn read_roles(path: &str, value: &RawValue) -> Read<Vec<String>> {
    let items = fields::nonempty_list(path, value, POLICY_ROLES_MAX)?;
    let mut roles = Vec::with_capacity(items.len());
    let mut issues = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        match fields::nonempty(&format!("{path}.{at}"), item, POLICY_NAME_BYTES_MAX) {
            Ok(role) => roles.push(role.into_owned()),
            Err(issue) => issues.push(issue),
        }
    }
    if issues.is_empty() { Ok(roles) } else { Err(issues.join(", ")) }
}

fn read_expression(path: &str, value: Option<&RawValue>) -> Read<Option<String>> {
    let Some(value) = value.filter(|value| !fields::is_null(value)) else { return Ok(None) };
    let text = fields::nonempty(path, value, POLICY_EXPRESSION_BYTES_MAX)?;
    Ok(Some(text.into_owned()))
}

/// Returns the name of InsForge's table that the policies of a side protect.
fn table(action: Action) -> &'static str {
    match action {
        Action::Subscribe => "realtime_channels",
        Action::Publish => "realtime_messages",
    }
}

#[derive(Serialize)]
struct PermissionsJson<'a> {
    subscribe: SideJson<'a>,
    publish: SideJson<'a>,
}

#[derive(Serialize)]
struct SideJson<'a> {
    policies: Vec<PolicyJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyJson<'a> {
    policy_name: &'a str,
    table_name: &'static str,
    command: &'static str,
    roles: &'a [String],
    using: Option<&'a str>,
    with_check: Option<&'a str>,
}

impl<'a> PolicyJson<'a> {
    fn new(action: Action, policy: &'a Policy) -> Self {
        Self {
            policy_name: &policy.name,
            table_name: table(action),
            command: policy.command.name(),
            roles: &policy.roles,
            using: policy.using.as_deref(),
            with_check: policy.with_check.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policies in the JSON shape of InsForge's documentation.
    const DOCUMENTED: &str = r#"{"subscribe":{"policies":[{"policyName":"allow_authenticated_subscribe","tableName":"realtime_channels","command":"SELECT","roles":["authenticated"],"using":"enabled = true","withCheck":null}]},"publish":{"policies":[{"policyName":"allow_authenticated_publish","tableName":"realtime_messages","command":"INSERT","roles":["authenticated"],"using":null,"withCheck":"true"}]}}"#;

    #[test]
    fn the_documented_shape_is_read_and_written() {
        let permissions = parse(DOCUMENTED.as_bytes()).unwrap();
        assert_eq!(permissions.subscribe[0].using.as_deref(), Some("enabled = true"));
        assert_eq!(permissions.publish[0].with_check.as_deref(), Some("true"));
        let reply = Reply::permissions(&permissions);
        assert_eq!((reply.status, reply.body.as_str()), (200, DOCUMENTED));
    }

    #[test]
    fn what_may_be_left_out_may_be_left_out() {
        let empty = r#"{"subscribe":{"policies":[]},"publish":{"policies":[]}}"#;
        assert_eq!(Reply::permissions(&parse(b"{}").unwrap()).body, empty);
        let least = r#"{"publish":{"policies":[{"policyName":"p","roles":["anon"]}]}}"#;
        let permissions = parse(least.as_bytes()).unwrap();
        let expected = Policy {
            name: "p".into(),
            command: PolicyCommand::Insert,
            roles: vec!["anon".into()],
            using: None,
            with_check: None,
        };
        assert_eq!(permissions.publish, [expected]);
        assert!(permissions.subscribe.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_all_issues() {
        let long = format!(r#"{{"policyName":"p","roles":["a"],"using":"{}"}}"#, "x".repeat(4_097));
        let table = [
            (r#"{"roles":["a"]}"#, "policyName: Required"),
            (r#"{"policyName":"","roles":["a"]}"#, "policyName: String must contain at least 1"),
            (r#"{"policyName":"p"}"#, "roles: Required"),
            (r#"{"policyName":"p","roles":[]}"#, "roles: Array must contain at least 1 element(s)"),
            (r#"{"policyName":"p","roles":"a"}"#, "roles: Expected array, received string"),
            (r#"{"policyName":"p","roles":["a",5]}"#, "roles.1: Expected string, received number"),
            (
                r#"{"policyName":"p","roles":["a"],"tableName":"channels"}"#,
                "tableName: Invalid literal value, expected \"realtime_channels\"",
            ),
            (
                r#"{"policyName":"p","roles":["a"],"command":"INSERT"}"#,
                "command: Invalid enum value. Expected 'SELECT' | 'ALL'",
            ),
            (
                r#"{"policyName":"p","roles":["a"],"withCheck":"true"}"#,
                "withCheck: Expected null for the command SELECT",
            ),
            (r#"{"policyName":"p","roles":["a"],"using":5}"#, "using: Expected string"),
            (&long, "using: String must contain at most 4096 byte(s)"),
        ];
        for (policy, issue) in table {
            let body = format!(r#"{{"subscribe":{{"policies":[{policy}]}}}}"#);
            let refused = parse(body.as_bytes()).unwrap_err().to_string();
            let expected = format!("subscribe.policies.0.{issue}");
            assert!(refused.starts_with(&expected), "{refused}, not {expected}");
        }
        let bodies = [
            ("", "Required"),
            ("[]", "Expected object, received array"),
            (r#"{"subscribes":{}}"#, "Unrecognized key(s) in object: 'subscribes'"),
            (r#"{"publish":{}}"#, "publish.policies: Required"),
            (r#"{"publish":null}"#, "publish: Expected object, received null"),
            (
                r#"{"publish":{"policies":[{"policyName":"p","roles":["a"],"witCheck":"false"}]}}"#,
                "publish.policies.0: Unrecognized key(s) in object: 'witCheck'",
            ),
            (
                r#"{"subscribe":{"policies":[5]},"publish":{"policies":[{}]}}"#,
                "subscribe.policies.0: Expected object, received number, \
                 publish.policies.0.policyName: Required, publish.policies.0.roles: Required",
            ),
        ];
        for (body, expected) in bodies {
            let refused = parse(body.as_bytes()).unwrap_err();
            assert_eq!((refused.status(), refused.to_string().as_str()), (400, expected), "{body}");
        }
    }

    #[test]
    fn names_and_numbers_are_bounded() {
        let named = |name: &str| format!(r#"{{"policyName":"{name}","roles":["a"]}}"#);
        let side = |all: &[String]| {
            let body = format!(r#"{{"publish":{{"policies":[{}]}}}}"#, all.join(","));
            parse(body.as_bytes()).map_err(|refused| refused.to_string())
        };
        let many: Vec<String> = (0..=POLICIES_MAX).map(|at| named(&format!("p{at}"))).collect();
        assert!(side(&many[1..]).is_ok());
        let refused = side(&many).unwrap_err();
        assert_eq!(refused, "publish.policies: Array must contain at most 64 element(s)");
        let refused = side(&[named("p"), named("p")]).unwrap_err();
        assert_eq!(refused, "publish.policies.1.policyName: Another policy has this name");
    }
}
