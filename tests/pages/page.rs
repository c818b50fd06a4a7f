//! The commands of a page, and what it says that they print.
//!
//! Fences that begin with `sh` hold commands to paste. A comment below a block, which no reader
//! sees, names a text that must have been printed by the end of the block:
//!
//! ```text
//! <!-- prints: {"status":"ok" -->
//! ```

use std::process::Command;

/// The fence above commands.
const OPENING: &str = "```sh";
const CLOSING: &str = "```";
const PRINTS: (&str, &str) = ("<!-- prints: ", " -->");

/// A page of the documentation.
pub(crate) struct Page {
    /// Relative to the root of the repository.
    pub(crate) path: String,
    pub(crate) blocks: Vec<Block>,
    /// Number of lines of the page.
    lines: usize,
}

/// Commands between two fences.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// The line of the first command, counted from 1.
    pub(crate) line: usize,
    pub(crate) commands: Vec<String>,
    /// Texts that are printed before the next block is pasted.
    pub(crate) prints: Vec<String>,
}

impl Page {
    /// Takes the commands out of a page.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut lines = (1..).zip(text.lines());
        while let Some((number, line)) = lines.next() {
            if line == OPENING {
                let commands = lines.by_ref().map(|(_, line)| line);
                let commands = commands.take_while(|line| *line != CLOSING).map(str::to_owned);
                let commands = commands.collect();
                blocks.push(Block { line: number + 1, commands, prints: Vec::new() });
            } else if let Some(rest) = line.strip_prefix(PRINTS.0) {
                let printed = rest.strip_suffix(PRINTS.1).expect("a comment of one line");
                let block = blocks.last_mut().expect("it is below a block");
                block.prints.push(printed.to_owned());
            }
        }
        Self { path: path.to_owned(), blocks, lines: text.lines().count() }
    }

    /// Returns a script of the page's commands, each in the line that it has on the page. Each
    /// block is followed by `end_of`, which gets the number of the block.
    pub(crate) fn script(&self, end_of: impl Fn(usize) -> String) -> String {
        let mut lines = vec![String::new(); self.lines];
        for (number, block) in self.blocks.iter().enumerate() {
            let (from, to) = (block.line - 1, block.line - 1 + block.commands.len());
            lines[from..to].clone_from_slice(&block.commands);
            lines[to] = end_of(number);
        }
        lines.join("\n") + "\n"
    }

    /// Returns an error for each block that bash cannot parse.
    pub(crate) fn unparsable(&self) -> Vec<String> {
        let wrong = self.blocks.iter().filter_map(|block| {
            let mut bash = Command::new("bash");
            let output = bash.arg("-nc").arg(block.commands.join("\n")).output();
            let output = output.expect("bash runs");
            // An unfinished here-document is only a warning.
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_good = output.status.success() && errors.is_empty();
            (!is_good).then(|| format!("{}:{}: {errors}", self.path, block.line))
        });
        wrong.collect()
    }
}

/// Returns the paths of the pages that a page at the root links, each once, in order.
pub(crate) fn linked(text: &str) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for target in text.split("](").skip(1) {
        let target = target.split([')', '#']).next().unwrap_or(target);
        if target.ends_with(".md") && !paths.iter().any(|path| path == target) {
            paths.push(target.to_owned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A\n\n```sh\ncat <<END\na\nEND\n```\n<!-- prints: a -->\n\n```js\nb()\n\
                        ```\n\n```sh\necho c\n```\n";

    #[test]
    fn blocks_of_commands_are_taken_out_with_what_they_print() {
        let page = Page::new("A.md", TEXT);
        let block = |line, commands: &[&str], prints: &[&str]| Block {
            line,
            commands: commands.iter().map(|line| (*line).to_owned()).collect(),
            prints: prints.iter().map(|line| (*line).to_owned()).collect(),
        };
        let expected = [block(4, &["cat <<END", "a", "END"], &["a"]), block(15, &["echo c"], &[])];
        assert_eq!(page.blocks, expected);
    }

    #[test]
    fn a_command_has_the_same_line_in_the_script_as_on_the_page() {
        let script = Page::new("A.md", TEXT).script(|number| format!("end {number}"));
        let expected = "\n\n\ncat <<END\na\nEND\nend 0\n\n\n\n\n\n\n\necho c\nend 1\n";
        assert_eq!(script, expected);
    }

    #[test]
    fn blocks_that_do_not_parse_are_named() {
        for wrong in ["echo 'a", "cat <<END\na", "if true; then"] {
            let page = Page::new("A.md", &format!("```sh\ntrue\n```\n```sh\n{wrong}\n```\n"));
            let found = page.unparsable();
            assert!(matches!(&found[..], [only] if only.starts_with("A.md:5: ")), "{found:?}");
        }
    }

    #[test]
    fn links_are_followed_in_order_and_once() {
        let text = "[a](#a) [b](src/b/README.md#x) [c](c.rs) [d](https://d/) [e](e.md)\n\
                    [again](src/b/README.md)";
        assert_eq!(linked(text), ["src/b/README.md", "e.md"]);
    }
}
