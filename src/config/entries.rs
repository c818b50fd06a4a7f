//! Lists whose entries have a form of their own.

/// Reads the entries of a list. `wrong` makes the error of a list that has not 1 to `most` entries,
/// and of an entry that occurs twice.
///
/// # Errors
/// What is wrong with the first entry that is not valid, or with the list.
pub(super) fn read_entries<T: PartialEq, E>(
    texts: &[&str],
    most: usize,
    read: impl Fn(&str) -> Result<T, E>,
    wrong: impl Fn(Option<&T>) -> E,
) -> Result<Vec<T>, E> {
    if !(1..=most).contains(&texts.len()) {
        return Err(wrong(None));
    }
    let mut entries = Vec::with_capacity(texts.len());
    for text in texts {
        let entry = read(text.trim())?;
        if entries.contains(&entry) {
            return Err(wrong(Some(&entry)));
        }
        entries.push(entry);
    }
    Ok(entries)
}
