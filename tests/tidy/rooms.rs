//! Rules of rooms: the files of a room import each other in one direction, and only the seam
//! matches on the interface.

use std::collections::{BTreeMap, BTreeSet};

use crate::Violation;
use crate::lexer::Kind;
use crate::paths::{NamedPath, tokens};
use crate::source::Source;

/// The rooms that hold one interface each.
pub(crate) const INTERFACES: [&str; 4] = ["insforge", "forge", "m2", "events"];
/// The variants of `Session`.
const SESSIONS: [&str; 6] = ["Insforge", "Probe", "Forge", "M2", "Events", "Echo"];
/// The names of rooms that are not also common words.
const NAMES: [&str; 3] = ["insforge", "forge", "m2"];
/// The files that may match on the interface.
const SEAM: [&str; 3] = ["interface/mod.rs", "interface/encode.rs", "interface/entrance.rs"];

/// The places outside `interface/` that may name an interface: they configure it, start it, label
/// its metrics, sign its tokens or introduce it.
const NAMES_PATHS: [&str; 6] =
    ["config/", "metrics/mod.rs", "main/token.rs", "main.rs", "node/", "lib.rs"];

/// Finds circles of files that import each other inside one room.
pub(crate) fn check_circles(sources: &[Source]) -> Vec<Violation> {
    let edges = edges(sources);
    let mut violations = Vec::new();
    let mut told = BTreeSet::new();
    for start in edges.keys() {
        let Some(circle) = circle(&edges, start) else { continue };
        let members: BTreeSet<_> = circle.iter().copied().collect();
        if told.insert(members) {
            let message = format!(
                "circle: {}; move what they share into a file below both",
                circle.iter().chain([&circle[0]]).copied().collect::<Vec<_>>().join(" -> ")
            );
            violations.push(Violation { file: format!("src/{start}"), line: 1, message });
        }
    }
    violations
}

/// Returns a shortest circle of imports through a file.
fn circle<'a>(
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way[way.len() - 1];
            for &next in edges.get(last).into_iter().flatten() {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    longer.push([&way[..], &[next]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

/// Returns for each file the other files of its room whose items its production code names. A
/// `pub use` is not an import. A folder's `mod.rs`, or the file of the folder's name, stands for
/// the folder, so that the folder's files may name its items.
fn edges(sources: &[Source]) -> BTreeMap<&str, BTreeSet<&str>> {
    let files: BTreeMap<Vec<&str>, &str> =
        sources.iter().map(|source| (module_path(&source.path), source.path.as_str())).collect();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        for path in source.imports() {
            let Some(target) = resolve(source, &path, &files) else { continue };
            let is_same_room = room(target) == room(&source.path);
            let folder = target.strip_suffix("mod.rs").map(str::to_owned);
            let folder = folder.unwrap_or_else(|| target.replace(".rs", "/"));
            let is_own_folder = source.path.starts_with(&folder);
            if target != source.path && is_same_room && !is_own_folder {
                edges.entry(&source.path).or_default().insert(target);
            }
        }
    }
    edges
}

/// Returns the room of a file: an interface's own folder, or the first folder under `src`.
pub(crate) fn room(path: &str) -> &str {
    let mut parts = path.split('/');
    match (parts.next(), parts.next()) {
        (Some("interface"), Some(name)) if INTERFACES.contains(&name) => name,
        (Some(first), _) => first.trim_end_matches(".rs"),
        (None, _) => "",
    }
}

/// Returns the names of the modules that lead to a file.
fn module_path(path: &str) -> Vec<&str> {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|part| *part != "lib").collect()
}

/// Returns the file that holds the item of a path.
fn resolve<'a>(
    source: &Source,
    path: &NamedPath,
    files: &BTreeMap<Vec<&str>, &'a str>,
) -> Option<&'a str> {
    let here = module_path(&source.path);
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    let rest = path.segments.iter().map(String::as_str);
    let (base, rest): (&[&str], Vec<&str>) = match path.segments.first()?.as_str() {
        "crate" => (&[], rest.skip(1).collect()),
        "self" => (&here, rest.skip(1).collect()),
        "super" => (&here[..here.len().checked_sub(supers)?], rest.skip(supers).collect()),
        _ => (&here, rest.collect()),
    };
    let full: Vec<&str> = base.iter().copied().chain(rest).collect();
    // A bare name is a module of this file only if there is such a file.
    let least = if path.segments[0] == "crate" { 1 } else { here.len().min(base.len()) };
    let lengths = (least..=full.len()).rev();
    let is_bare = !matches!(path.segments[0].as_str(), "crate" | "self" | "super");
    let mut found = lengths.filter_map(|length| Some((length, *files.get(&full[..length])?)));
    let (length, file) = found.next()?;
    (!is_bare || length > base.len()).then_some(file)
}

/// Finds production code outside the seam that matches on the interface.
pub(crate) fn check_axis(source: &Source) -> Vec<Violation> {
    if source.is_test || SEAM.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let code = source.code();
    let tokens = tokens(&code);
    let named = tokens.windows(3).filter(|three| {
        three[0].text == "Session"
            && three[1].text == "::"
            && SESSIONS.contains(&three[2].text.as_str())
    });
    let lines = named.map(|three| three[0].line).filter(|line| !source.is_test_line(*line));
    let message = "interface axis: only interface/{mod,encode,entrance}.rs match on which \
                   interface it is; ask the session, or give `Session` a method";
    lines.map(|line| source.violation(line, message.into())).collect()
}

/// Finds code and comments outside `interface/` that name an interface. Literals may name one,
/// because headers of webhooks, keys of the configuration and columns of the store have such names.
pub(crate) fn check_names(source: &Source) -> Vec<Violation> {
    if source.is_under(&["interface/"]) || source.is_under(&NAMES_PATHS) {
        return Vec::new();
    }
    let bytes = source.text.bytes().zip(&source.kinds);
    let kept = bytes.map(|(byte, kind)| if *kind == Kind::Text { b' ' } else { byte });
    let text = String::from_utf8_lossy(&kept.collect::<Vec<u8>>()).to_lowercase();
    let names_one = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '-');
        words.any(|word| NAMES.contains(&word))
    };
    let message = "interface name: outside interface/ only config, metrics, node, main and lib \
                   name one; use the nouns of `message`";
    let lines = (1..).zip(text.lines()).filter(|(_, line)| names_one(line));
    lines.map(|(line, _)| source.violation(line, message.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_are_found_in_code_and_comments() {
        let lines = |path: &str, text: &str| check_names(&Source::new(path, text)).len();
        assert_eq!(lines("broker/a.rs", "const FORGE_BYTES_MAX: u32 = 1;\n// of M2\n"), 2);
        assert_eq!(lines("broker/a.rs", "fn forget() { header(\"X-InsForge-Event\") }"), 0);
        assert_eq!(lines("config/keys.rs", "struct Forge;"), 0);
        assert_eq!(lines("interface/mod.rs", "mod forge;"), 0);
    }

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
        check_circles(&sources).into_iter().map(|violation| violation.message).collect()
    }

    #[test]
    fn circles_inside_a_room_are_found() {
        let one_way = [
            ("broker/mod.rs", "pub mod a; pub mod b; pub use a::A;"),
            ("broker/a.rs", "use super::b::B;"),
            ("broker/b.rs", "use crate::runtime::R;"),
            ("runtime/mod.rs", "use crate::broker::A;"),
        ];
        assert_eq!(circles(&one_way), [""; 0]);
        let round = [
            ("broker/mod.rs", "pub mod a; pub mod b;"),
            ("broker/a.rs", "use super::b::B;"),
            ("broker/b.rs", "fn f() { crate::broker::a::g() }"),
        ];
        assert_eq!(circles(&round).len(), 1);
        let tests = [
            ("broker/a.rs", "use super::b::B;"),
            ("broker/b.rs", "#[cfg(test)]\nmod tests {\n use crate::broker::a::A;\n}"),
        ];
        assert_eq!(circles(&tests), [""; 0]);
        let with_the_folder =
            [("broker/mod.rs", "mod a; use a::A; pub struct B;"), ("broker/a.rs", "use super::B;")];
        assert_eq!(circles(&with_the_folder), [""; 0]);
    }

    #[test]
    fn matching_on_the_interface_outside_the_seam_is_found() {
        let lines = |path: &str, text: &str| check_axis(&Source::new(path, text)).len();
        let text = "match s { Session::Forge(_) => {} }";
        assert_eq!(lines("runtime/a.rs", text), 1);
        assert_eq!(lines("interface/mod.rs", text), 0);
        assert_eq!(lines("runtime/a.rs", "let s = forge::Session::new();"), 0);
        assert_eq!(lines("runtime/a.rs", "#[cfg(test)]\nmod tests { use S::Session::Echo; }"), 0);
    }
}
