//! Reads values, and the places where they stand, from the configuration file and the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::start_of;
use super::service_links::is_service_link;
use super::value::Raw;
use super::{Config, KEYS, Key, Place};

/// The prefix of the node's environment variables.
const ENV_PREFIX: &str = "FANFARE_";
/// Names that other servers give to the variable of the address that they listen on.
const NAMES_OF_LISTEN: [&str; 5] =
    ["FANFARE_PORT", "FANFARE_HOST", "FANFARE_ADDR", "FANFARE_ADDRESS", "FANFARE_BIND"];
/// Longest file that is read at start, in bytes. A longer one is refused, because it must be some
/// other file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Sets the values of a configuration file, from top to bottom. Returns its mistakes.
pub(super) fn apply_file(config: &mut Config, path: &Path) -> Vec<String> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(reason) => return vec![format!("argument --config: {}: {reason}", path.display())],
    };
    let document = match Document::parse(path, &text) {
        Ok(document) => document,
        Err(mistake) => return vec![mistake],
    };
    let values = document.flat().into_iter();
    values
        .filter_map(|(name, line, value)| match Key::named(&name) {
            Some(key) => config.give(key, Raw::Toml(value), document.place(line)).err(),
            None => Some(unknown(&document.place(line), &name)),
        })
        .collect()
}

fn unknown(place: &Place, name: &str) -> String {
    if is_section(name) {
        return format!("{place}: `{name}` is a section: write `[{name}]` and its keys below it");
    }
    let sections = KEYS.iter().filter_map(|key| Some(key.name.split_once('.')?.0));
    let nearest = nearest(name, KEYS.iter().map(|key| key.name).chain(sections));
    format!("{place}: unknown key `{}`{nearest}", start_of(name))
}

/// Reads a text file of bounded length that the operator named, or says why it cannot be read.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    read_open(open(path))
}

/// Opens a file. Refuses pipes and sockets, because opening one may wait for its other end.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let kind = path.metadata()?.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return Err(io::Error::other("it is a pipe or a socket, not a file"));
    }
    File::open(path)
}

/// Reads a file of at most `bytes_max` bytes that is open, or says why it cannot be read.
pub(super) fn read_bytes(file: io::Result<File>, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    match bytes.len() as u64 > bytes_max {
        true => Err(format!("longer than {bytes_max} bytes")),
        false => Ok(bytes),
    }
}

/// Reads a file that is open; see [`read_text`].
pub(super) fn read_open(file: io::Result<File>) -> Result<String, String> {
    let bytes = read_bytes(file, FILE_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        format!("line {line} is not UTF-8 text")
    })
}

/// A TOML file, with the line of each value.
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> Document<'a> {
    /// Parses the file. Only the message of the parser's report is taken, because the report quotes
    /// the line, and with it perhaps a secret.
    pub(super) fn parse(path: &'a Path, text: &'a str) -> Result<Self, String> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = line_at(text.as_bytes(), error.span().map_or(0, |span| span.start));
            let reason = error.message().replace('\n', "; ");
            format!("{}:{line}: not valid TOML: {reason}", path.display())
        })?;
        Ok(Self { path, text, table: table.into_inner() })
    }

    /// Returns its values with their names and lines, from top to bottom; tables are not entered.
    pub(super) fn top(&self) -> Vec<(&str, usize, &DeValue<'a>)> {
        self.sorted(&self.table)
    }

    /// Returns the place of a line in this file.
    pub(super) fn place(&self, line: usize) -> Place {
        Place::File { path: self.path.to_owned(), line }
    }

    /// Returns its values with their full names and lines. Known sections are entered.
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
                let line = line_at(self.text.as_bytes(), name.span().start);
                (name.get_ref().as_ref(), line, value.get_ref())
            })
            .collect()
    }
}

/// The environment variables of the node.
pub(super) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    pub(super) fn collect<N, V>(all: impl Iterator<Item = (N, V)>) -> Self
    where
        N: AsRef<OsStr>,
        V: Into<OsString>,
    {
        let all =
            all.map(|(name, value)| (name.as_ref().to_string_lossy().into_owned(), value.into()));
        let mut ours: BTreeMap<_, OsString> =
            all.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        let foreign: Vec<_> = ours
            .extract_if(.., |name, value| is_foreign(name, value))
            .map(|(name, _)| name)
            .collect();
        // Docker also hands over the environment of the container that a link leads to.
        let of_links = foreign.iter().filter_map(|name| name.strip_suffix("_NAME"));
        let of_links: Vec<_> = of_links.map(|link| format!("{link}_ENV_")).collect();
        ours.retain(|name, _| !of_links.iter().any(|start| name.starts_with(start)));
        Self(ours)
    }

    /// Sets their values, by name. Returns their mistakes.
    pub(super) fn apply(&self, config: &mut Config) -> Vec<String> {
        let apply = |(name, value): (&String, &OsString)| {
            let Some(key) = KEYS.iter().find(|key| key.env == name) else {
                let meant =
                    if NAMES_OF_LISTEN.contains(&name.as_str()) { "FANFARE_LISTEN" } else { name };
                let nearest = nearest(meant, KEYS.iter().map(|key| key.env));
                return Some(format!("unknown environment variable `{}`{nearest}", start_of(name)));
            };
            let place = Place::Environment { variable: key.env };
            config.give(key, Raw::Plain(value), place).err()
        };
        self.0.iter().filter_map(apply).collect()
    }
}

/// Returns whether a variable is no setting, because a container platform makes it by itself.
fn is_foreign(name: &str, value: &OsStr) -> bool {
    let is_setting = KEYS.iter().any(|key| key.env == name);
    !is_setting && value.to_str().is_some_and(|value| is_service_link(name, value, ENV_PREFIX))
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

fn line_at(text: &[u8], at: usize) -> usize {
    let before = &text[..at.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// Returns a question for the known name that is most like a wrong one, or nothing if they have too
/// little in common.
fn nearest(wrong: &str, known: impl Iterator<Item = &'static str>) -> String {
    // The same name in another section is more likely meant than one that is spelled like this. So
    // is a variable without the section that stands before it here.
    let nearest = known
        .map(|name| match wrong {
            _ if name.rsplit('.').next() == wrong.rsplit('.').next() => (1, name),
            _ if is_with_a_section(wrong, name) => (2, name),
            _ => (distance(wrong, name), name),
        })
        .filter(|(distance, name)| *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2.max(wrong.len() / 4));
    nearest.map(|(_, name)| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Returns whether a variable is another one with words before its own.
fn is_with_a_section(wrong: &str, name: &str) -> bool {
    let front = name.strip_prefix(ENV_PREFIX).and_then(|own| wrong.strip_suffix(own));
    front.is_some_and(|front| front.len() > ENV_PREFIX.len() && front.ends_with('_'))
}

/// Returns the Levenshtein distance of two texts: insertions, deletions and replacements, in bytes.
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
