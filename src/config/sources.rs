//! The file and the environment: where values come from, and where exactly.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Raw;
use super::{Config, ConfigError, KEYS, Key, Place};

/// What every variable of ours begins with.
const ENV_PREFIX: &str = "FANFARE_";
/// Longest file read at start, in bytes. A longer one is refused: it is some other file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Sets what a configuration file says, from top to bottom.
pub(super) fn apply_file(config: &mut Config, path: &Path) -> Result<(), ConfigError> {
    let text = read_text(path).map_err(|error| ConfigError::file(path, error))?;
    let document = Document::parse(path, &text)?;
    for (name, line, value) in document.flat() {
        let place = document.place(line);
        let Some(key) = Key::named(&name) else {
            return Err(unknown(place, name));
        };
        key.set(config, Raw::Toml(value)).map_err(|reason| ConfigError::Value {
            place,
            name: key.name,
            reason,
        })?;
    }
    Ok(())
}

fn unknown(place: Place, name: String) -> ConfigError {
    if is_section(&name) {
        return ConfigError::NotASection { place, name };
    }
    let sections = KEYS.iter().filter_map(|key| Some(key.name.split_once('.')?.0));
    let nearest = nearest(&name, KEYS.iter().map(|key| key.name).chain(sections));
    ConfigError::UnknownKey { place, name, nearest }
}

/// Reads a file that an operator names: bounded, and text.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    read_open(&File::open(path)?)
}

/// See [`read_text`].
pub(super) fn read_open(file: &File) -> io::Result<String> {
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A TOML file that remembers where its values stand.
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> Document<'a> {
    /// The parser's own report would quote the line, and with it perhaps a secret: only its
    /// message is taken.
    pub(super) fn parse(path: &'a Path, text: &'a str) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            place: Place::File {
                path: path.to_owned(),
                line: line_at(text, error.span().map_or(0, |span| span.start)),
            },
            reason: error.message().replace('\n', "; "),
        })?;
        Ok(Self { path, text, table: table.into_inner() })
    }

    /// Its values with their names and lines, from top to bottom; tables are not entered.
    pub(super) fn top(&self) -> Vec<(&str, usize, &DeValue<'a>)> {
        self.sorted(&self.table)
    }

    /// A line of this file.
    pub(super) fn place(&self, line: usize) -> Place {
        Place::File { path: self.path.to_owned(), line }
    }

    /// Its values with their full names and lines, the known sections' among them.
    fn flat(&self) -> Vec<(String, usize, &DeValue<'a>)> {
        let mut values = Vec::new();
        for (name, line, value) in self.top() {
            match value {
                DeValue::Table(section) if is_section(name) => values.extend(
                    self.sorted(section)
                        .into_iter()
                        .map(|(key, line, value)| (format!("{name}.{key}"), line, value)),
                ),
                _ => values.push((name.to_owned(), line, value)),
            }
        }
        values
    }

    fn sorted<'s>(&'s self, table: &'s DeTable<'a>) -> Vec<(&'s str, usize, &'s DeValue<'a>)> {
        let mut values: Vec<(&Spanned<_>, &Spanned<DeValue<'a>>)> = table.iter().collect();
        values.sort_by_key(|(name, _)| name.span().start);
        values
            .into_iter()
            .map(|(name, value)| {
                let line = line_at(self.text, name.span().start);
                (name.get_ref().as_ref(), line, value.get_ref())
            })
            .collect()
    }
}

/// The variables that are ours.
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    pub(super) fn collect(all: impl Iterator<Item = (String, String)>) -> Self {
        Self(all.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect())
    }

    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        for (name, text) in &self.0 {
            let Some(key) = KEYS.iter().find(|key| key.env == name) else {
                let nearest = nearest(name, KEYS.iter().map(|key| key.env));
                return Err(ConfigError::UnknownVariable { name: name.clone(), nearest });
            };
            let place = Place::Environment { variable: key.env };
            key.set(config, Raw::Text(text)).map_err(|reason| ConfigError::Value {
                place,
                name: key.name,
                reason,
            })?;
        }
        Ok(())
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

fn line_at(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The known name that is most like a wrong one, unless it is not like it at all.
fn nearest(wrong: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // A name at home in another section is more likely meant than one that is spelled like this.
    let (distance, name) = known
        .map(|name| {
            let same_end = name.rsplit('.').next() == wrong.rsplit('.').next();
            (if same_end { 1 } else { distance(wrong, name) }, name)
        })
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(wrong.len() / 4)).then_some(name)
}

/// Levenshtein's: insertions, deletions and replacements between two texts, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
