//! Checks rules of this code base that a machine can check. The message of a violation says what to
//! do instead.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/lints.rs"]
mod lints;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/prose.rs"]
mod prose;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use source::Source;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The names at the top of the repository, besides those that begin with a dot.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "tuning.md",
    "src",
    "benches",
    "deploy",
    "loadtest",
    "tests",
];

#[test]
fn the_sources_are_tidy() {
    let sources = Source::all(repository_files().iter().filter_map(|path| read_source(path)));
    assert!(sources.len() > 2, "the sources are found");
    let checks = [
        sizes::check_length,
        sizes::check_line_length,
        imports::check_imports,
        imports::check_confined_crates,
        imports::check_pure,
        lints::check_unsafe,
        lints::check_reasons,
        lints::check_leftovers,
        rooms::check_axis,
        rooms::check_names,
        prose::check_words,
    ];
    let each = sources.iter().flat_map(|source| checks.iter().flat_map(|check| check(source)));
    let mut violations: Vec<_> = each.collect();
    violations.extend(rooms::check_circles(&sources));
    report(&violations);
}

#[test]
fn the_comments_say_something() {
    let files = repository_files();
    let held = prose::Held::of(&files);
    let sources = files.iter().filter(|path| path.ends_with(".rs"));
    let mut violations = Vec::new();
    for path in sources {
        let Some(text) = read(path) else { continue };
        let source = Source::new(path, text);
        violations.extend(prose::check_repeats(&source));
        violations.extend(prose::check_citations(&source, &held));
    }
    report(&violations);
}

#[test]
fn the_top_level_shows_what_it_should() {
    report(&check_top_level(&git_files(&["--cached"])));
}

#[test]
fn the_dependencies_are_few() {
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).expect("it is in git");
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-e", "normal", "--prefix", "none", "-p", "fanfare"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .current_dir(ROOT)
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("cargo writes UTF-8");
    let mut violations = sizes::check_locked(&lock);
    violations.extend(sizes::check_built(&tree));
    report(&violations);
}

/// Returns the paths that `git ls-files` lists with these arguments, in order and relative to the
/// root of the repository.
fn git_files(arguments: &[&str]) -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .args(arguments)
        .current_dir(ROOT)
        .output()
        .expect("git runs");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let mut paths: Vec<_> = paths.split_terminator('\0').map(str::to_owned).collect();
    paths.sort_unstable();
    paths
}

/// Returns the files of the repository, also those that are not added yet.
fn repository_files() -> Vec<String> {
    git_files(&["--cached", "--others", "--exclude-standard"])
}

/// Returns the text of a file; `None` if it is deleted but still in git's index.
fn read(path: &str) -> Option<String> {
    let file = Path::new(ROOT).join(path);
    file.exists().then(|| fs::read_to_string(file).expect("sources are UTF-8"))
}

/// Returns the path below `src` of a Rust source, and its text. `None` for other files, and for
/// those that are deleted but still in git's index.
fn read_source(path: &str) -> Option<(String, String)> {
    let name = path.strip_prefix("src/").filter(|name| name.ends_with(".rs"))?;
    Some((name.to_owned(), read(path)?))
}

fn report(violations: &[Violation]) {
    let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} violation(s):\n{}", list.len(), list.join("\n"));
}

struct Violation {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl Source {
    fn violation(&self, line: usize, message: String) -> Violation {
        Violation { file: format!("src/{}", self.path), line, message }
    }
}

/// Checks paths relative to the root of the repository.
fn check_top_level(files: &[String]) -> Vec<Violation> {
    let names: BTreeSet<_> =
        files.iter().map(|path| path.split('/').next().unwrap_or(path)).collect();
    assert!(names.contains("Cargo.toml"), "the root of the repository is listed");
    let strangers = names.iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name));
    let message = format!(
        "top level: only {} show there; put it into one of those folders, or hide settings in a \
         dot file",
        TOP_LEVEL.join(", ")
    );
    strangers
        .map(|name| Violation { file: (*name).to_owned(), line: 1, message: message.clone() })
        .collect()
}

/// Returns the lines of a check's violations in a file of this path and text.
fn lines(check: fn(&Source) -> Vec<Violation>, path: &str, text: &str) -> Vec<usize> {
    check(&Source::new(path, text)).into_iter().map(|violation| violation.line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_at_the_top_are_found() {
        let files =
            ["Cargo.toml", "src/lib.rs", ".github/ci.yml", "docs/a.md", "docs/b.md", "Makefile"];
        let found = check_top_level(&files.map(String::from));
        let files: Vec<_> = found.iter().map(|violation| violation.file.as_str()).collect();
        assert_eq!(files, ["Makefile", "docs"]);
    }

    #[test]
    fn files_are_listed_by_git() {
        let files = git_files(&["--cached"]);
        assert!(files.iter().any(|path| path == "tests/tidy.rs"));
        assert!(files.iter().all(|path| !path.starts_with("target/")));
        let (name, text) = read_source("src/lib.rs").expect("it is there");
        assert!(name == "lib.rs" && !text.is_empty());
        assert_eq!(read_source("src/gone.rs"), None);
        assert_eq!(read_source("README.md"), None);
    }
}
