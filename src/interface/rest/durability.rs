//! The query parameter `durability`: how safely a publication must be stored before its publisher
//! receives the answer.

use super::error::ApiError;
use crate::message::Durability;

/// Returns the level that a query asks for; `None` if it has no such parameter.
///
/// # Errors
/// 400 if no level has this name.
pub(in crate::interface) fn durability(
    query: Option<&str>,
) -> Result<Option<Durability>, ApiError> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, name)) = pairs.find(|(key, _)| key == "durability") else { return Ok(None) };
    Durability::named(&name).map(Some).ok_or_else(|| {
        let names = Durability::ALL.map(|level| format!("'{}'", level.name())).join(" | ");
        ApiError::invalid_input(format!("durability: Invalid enum value. Expected {names}"))
    })
}
