//! Policies in the store.

use rusqlite::{Connection, Row, params};

use super::fault::{senseless, unknown};
use super::{Store, StoreError};
use crate::message::{Action, Permissions, Policy, PolicyCommand};

impl Store {
    /// Returns all policies, by name.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row makes no sense; the database's own failures.
    pub fn permissions(&self) -> Result<Permissions, StoreError> {
        self.read(all)
    }

    /// Replaces all policies, or none of them. Names are unique for each action.
    ///
    /// # Errors
    ///
    /// The database's own failures.
    pub fn replace_permissions(&self, permissions: &Permissions) -> Result<(), StoreError> {
        self.transact(|connection| replace(connection, permissions))
    }
}

/// Returns all policies, by name.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Permissions> {
    let query = "SELECT name, command, roles, using_expression, check_expression
                 FROM policies WHERE action = ?1 ORDER BY name";
    let mut permissions = Permissions::default();
    for action in Action::ALL {
        let mut statement = connection.prepare_cached(query)?;
        let policies = statement.query_map([action.name()], policy)?;
        *permissions.side_mut(action) = policies.collect::<rusqlite::Result<_>>()?;
    }
    Ok(permissions)
}

/// Replaces all policies.
pub(super) fn replace(connection: &Connection, permissions: &Permissions) -> rusqlite::Result<()> {
    let insert = "INSERT INTO policies
                  (action, name, command, roles, using_expression, check_expression)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.execute("DELETE FROM policies", [])?;
    for action in Action::ALL {
        for policy in permissions.side(action) {
            let roles = serde_json::to_string(&policy.roles).expect("strings serialize");
            connection.prepare_cached(insert)?.execute(params![
                action.name(),
                policy.name,
                policy.command.name(),
                roles,
                policy.using,
                policy.with_check,
            ])?;
        }
    }
    Ok(())
}

fn policy(row: &Row<'_>) -> rusqlite::Result<Policy> {
    let (command, roles): (String, String) = (row.get(1)?, row.get(2)?);
    Ok(Policy {
        name: row.get(0)?,
        command: PolicyCommand::named(&command).ok_or_else(|| unknown(1, &command))?,
        roles: serde_json::from_str(&roles).map_err(|fault| senseless(2, fault))?,
        using: row.get(3)?,
        with_check: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    fn fresh() -> (TempDir, PathBuf, Store) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.db");
        let store = Store::open(&path).unwrap();
        (directory, path, store)
    }

    fn policy(name: &str, command: PolicyCommand) -> Policy {
        Policy {
            name: name.into(),
            command,
            roles: vec!["anon".into(), "\"ü\"".into()],
            using: Some("enabled\n= true".into()),
            with_check: None,
        }
    }

    #[test]
    fn policies_outlive_the_store_and_are_replaced_whole() {
        let (_directory, path, store) = fresh();
        assert_eq!(store.permissions().unwrap(), Permissions::default());
        let both = Permissions {
            subscribe: vec![policy("b", PolicyCommand::Select), policy("a", PolicyCommand::All)],
            publish: vec![policy("b", PolicyCommand::Insert)],
        };
        store.replace_permissions(&both).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        let mut expected = both.clone();
        expected.subscribe.reverse();
        assert_eq!(store.permissions().unwrap(), expected);

        let mut twice = both;
        twice.publish.push(policy("b", PolicyCommand::Insert));
        store.replace_permissions(&twice).unwrap_err();
        assert_eq!(store.permissions().unwrap(), expected);
        store.replace_permissions(&Permissions::default()).unwrap();
        assert_eq!(store.permissions().unwrap(), Permissions::default());
    }

    #[test]
    fn a_row_that_makes_no_sense_is_reported() {
        for fault in ["command = 'DROP'", "roles = '{'", "using_expression = x'00'"] {
            let (_directory, path, store) = fresh();
            let publish = vec![policy("a", PolicyCommand::Insert)];
            store.replace_permissions(&Permissions { subscribe: vec![], publish }).unwrap();
            let other = Connection::open(&path).unwrap();
            other.execute(&format!("UPDATE policies SET {fault}"), []).unwrap();
            let refused = store.permissions().unwrap_err();
            assert!(matches!(refused, StoreError::Corrupt { .. }), "{fault}: {refused}");
        }
    }
}
