//! `?durability=`: how safe a publication must be before its publisher is answered.

use super::error::ApiError;
use crate::message::Durability;

/// Reads the level that a query asks for; `None` if it does not ask for one.
///
/// # Errors
/// 400 if it names no level.
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
