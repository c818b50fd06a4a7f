//! The commands of README.md and of the pages that it links. They parse, and a reader who pastes
//! them in order, in one terminal for each page, sees them succeed. The test that pastes them takes
//! as long as the builds and `tests/run`, so only `tests/run long` runs it.

#[path = "pages/page.rs"]
mod page;
#[path = "pages/terminal.rs"]
mod terminal;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use page::{Page, linked};
use terminal::Terminal;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MAIN_PAGE: &str = "README.md";
/// Where the nodes of the pages listen.
const ADDRESS: &str = "127.0.0.1:7130";
/// The pages to paste instead of all, separated by blanks. `tests/run` is left out then. If
/// `README.md` is not among them, `fanfare` must be in the path.
const PAGES_VARIABLE: &str = "FANFARE_TEST_PAGES";

/// Returns the text of a page of a checkout.
fn read(checkout: &Path, path: &str) -> String {
    let text = fs::read_to_string(checkout.join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the main page and those that it links, in order, if they have commands.
fn pages(checkout: &Path) -> Vec<Page> {
    let main = read(checkout, MAIN_PAGE);
    let paths = [MAIN_PAGE.to_owned()].into_iter().chain(linked(&main));
    let pages = paths.map(|path| Page::new(&path, &read(checkout, &path)));
    pages.filter(|page| !page.blocks.is_empty()).collect()
}

/// Runs git in a folder and returns what it prints.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(folder).output();
    let output = output.expect("git runs");
    assert!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("git writes UTF-8")
}

#[test]
fn every_block_parses() {
    let wrong: Vec<_> = pages(Path::new(ROOT)).iter().flat_map(Page::unparsable).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_main_page_links_every_page_with_commands() {
    let root = Path::new(ROOT);
    let all = git(root, &["ls-files", "*.md"]);
    let all = all.lines().filter(|path| root.join(path).exists());
    let all = all.map(|path| Page::new(path, &read(root, path)));
    let with_commands = all.filter(|page| !page.blocks.is_empty()).map(|page| page.path);
    let linked: BTreeSet<_> = pages(root).into_iter().map(|page| page.path).collect();
    assert_eq!(with_commands.collect::<BTreeSet<_>>(), linked);
}

#[test]
#[ignore = "builds everything in a fresh clone and runs all tests there: tests/run long"]
fn pasted_commands_succeed_and_the_tests_pass_after_them() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let checkout = folder.path().join("checkout");
    let clone = ["clone", "--quiet", ROOT, checkout.to_str().expect("its path is UTF-8")];
    git(folder.path(), &clone);
    let chosen = env::var(PAGES_VARIABLE).ok();
    let page = |path| Page::new(path, &read(&checkout, path));
    let pages = match &chosen {
        Some(paths) => paths.split_whitespace().map(page).collect(),
        None => pages(&checkout),
    };
    let terminal = Terminal::new(folder.path(), &checkout);
    for page in &pages {
        println!("=== pasting {}", page.path);
        drop(TcpListener::bind(ADDRESS).expect("the address that the pages use is free"));
        let faults = terminal.paste(page);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
    let left = git(&checkout, &["status", "--porcelain"]);
    assert!(left.is_empty(), "the commands leave files that git sees:\n{left}");
    if chosen.is_none() {
        println!("=== tests/run in the same checkout");
        assert!(terminal.command("tests/run").status().expect("it starts").success());
    }
}
