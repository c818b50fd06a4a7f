//! The settings that a running node takes from its configuration without a restart.

use super::{Config, KEYS};

/// The keys whose values a running node takes at a reload.
pub const RELOADED: [&str; 11] = [
    "log",
    "auth.api_key",
    "auth.anon_key",
    "auth.previous_api_keys",
    "auth.previous_anon_keys",
    "auth.issuers",
    "auth.audiences",
    "auth.public_keys_file",
    "auth.jwks_file",
    "m2.api_key",
    "cors.allowed_origins",
];

/// The settings that differ between the running configuration and a newer one, by their keys.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reloaded {
    /// Settings whose new values were taken.
    pub taken: Vec<&'static str>,
    /// Settings whose new values need a restart.
    pub later: Vec<&'static str>,
}

impl Config {
    /// Takes the values of [`RELOADED`] from a newer configuration, and keeps all others.
    pub fn reload(&mut self, newer: &Self) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for key in KEYS {
            let differs = key.differs(self, newer);
            if RELOADED.contains(&key.name) {
                // Also if only the source differs, because messages name it.
                key.copy(self, newer);
                reloaded.taken.extend(differs.then_some(key.name));
            } else {
                reloaded.later.extend(differs.then_some(key.name));
            }
        }
        reloaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arguments, Place};

    fn config(env: &[(&str, &str)]) -> Config {
        Config::load(&Arguments::default(), env.iter().copied()).unwrap()
    }

    #[test]
    fn every_key_that_is_taken_exists_and_is_documented() {
        let readme = include_str!("README.md");
        let (_, section) = readme.split_once("\n## Reload\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        for name in RELOADED {
            assert!(KEYS.iter().any(|key| key.name == name), "{name}");
            assert!(section.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn a_reload_takes_some_values_and_names_the_others() {
        let mut running = config(&[("FANFARE_LOG", "warn"), ("FANFARE_DRAIN_MS", "7")]);
        let newer = config(&[("FANFARE_JWKS_FILE", "set.json"), ("FANFARE_WORKERS", "250")]);
        let reloaded = running.reload(&newer);
        assert_eq!(reloaded.taken, ["log", "auth.jwks_file"]);
        assert_eq!(reloaded.later, ["workers", "drain_ms"]);
        assert_eq!((running.log, running.drain_ms), (newer.log, 7));
        assert_eq!(running.auth, newer.auth);
        assert_eq!(running.place("log"), Place::Default);
        assert_eq!(running.place("auth.jwks_file"), newer.place("auth.jwks_file"));
        assert_eq!(running.place("drain_ms"), Place::Environment { variable: "FANFARE_DRAIN_MS" });
        let again = running.reload(&newer);
        assert_eq!((again.taken, again.later), (vec![], reloaded.later));
    }
}
