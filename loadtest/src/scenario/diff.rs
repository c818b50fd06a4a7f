//! `diff`: two saved runs side by side.

use anyhow::Result;

use crate::args::DiffArguments;
use crate::report::{Diff, Record};
use crate::scenario::say;

/// Prints the comparison.
pub(crate) fn run(arguments: &DiffArguments) -> Result<Vec<String>> {
    let (before, after) = (Record::load(&arguments.before)?, Record::load(&arguments.after)?);
    let diff = Diff::of(&before, &after)?;
    say(&diff.table());
    Ok(Vec::new())
}
