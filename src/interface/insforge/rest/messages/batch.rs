//! Several publications in one call. Each has its own answer, as if it had come alone.

use futures_util::future::join_all;
use serde_json::value::RawValue;

use crate::broker::received::Received;
use crate::codec::json::push_number;
use crate::interface::http::HttpContext;
use crate::interface::rest::{ApiError, Reply, durability};
use crate::limits::BATCH_PUBLICATIONS_MAX;

/// Returns whether a body is a batch: an array.
pub(in crate::interface::insforge::rest) fn is_batch(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

/// Publishes the elements of an array in their order, and answers when all are settled: 201 if all
/// were published, otherwise 207.
///
/// # Errors
/// 400 if the query is wrong, or the body is no array of 1 to [`BATCH_PUBLICATIONS_MAX`] elements;
/// then none is published.
pub(in crate::interface::insforge::rest) async fn publish(
    http: &HttpContext<'_>,
    query: Option<&str>,
    body: &Received,
) -> Result<Reply, ApiError> {
    durability(query)?;
    let parts = parts(body)?;
    // Each is submitted when it is first polled, and they are polled in order.
    let submitted =
        parts.iter().map(|part| super::publish(http, query, body, part.get().as_bytes()));
    let answers = join_all(submitted).await;
    Ok(reply(answers.into_iter().map(|answer| answer.unwrap_or_else(Reply::from))))
}

fn parts(body: &[u8]) -> Result<Vec<&RawValue>, ApiError> {
    let parts: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|error| ApiError::invalid_input(error.to_string()))?;
    if !(1..=BATCH_PUBLICATIONS_MAX).contains(&parts.len()) {
        return Err(ApiError::invalid_input(format!(
            "Expected 1 to {BATCH_PUBLICATIONS_MAX} publications, received {}",
            parts.len()
        )));
    }
    Ok(parts)
}

/// Returns the array of the answers, each with its status in front of its members.
fn reply(answers: impl Iterator<Item = Reply>) -> Reply {
    let mut body = String::from("[");
    let mut all_done = true;
    for Reply { status, body: answer, .. } in answers {
        all_done &= status == 201;
        if body.len() > 1 {
            body.push(',');
        }
        body.push_str(r#"{"status":"#);
        push_number(&mut body, status.into());
        // Every answer is an object with members.
        body.push(',');
        body.push_str(answer.strip_prefix('{').unwrap_or("}"));
    }
    body.push(']');
    Reply::of(if all_done { 201 } else { 207 }, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arrays_of_some_publications_are_batches() {
        assert!(is_batch(b" \n[") && !is_batch(b"{") && !is_batch(b""));
        let count = |body: &str| parts(body.as_bytes()).map(|parts| parts.len()).ok();
        let most = vec!["{}"; BATCH_PUBLICATIONS_MAX].join(",");
        assert_eq!(count(r#"[{"a":[1,2]}, 5]"#), Some(2));
        assert_eq!(count(&format!("[{most}]")), Some(BATCH_PUBLICATIONS_MAX));
        for body in ["[]", "[1,]", "[1", "[1] 2", &format!("[{most},1]")] {
            assert_eq!(count(body), None, "{body:.20}");
        }
    }

    #[test]
    fn each_answer_has_its_status() {
        let answers = [(201, r#"{"messageId":"1"}"#), (404, r#"{"error":"NOT_FOUND"}"#)];
        let answers = answers.map(|(status, body)| Reply::of(status, body.to_owned()));
        let [published, _] = answers.clone();
        let both = reply(answers.into_iter());
        assert_eq!(both.status, 207);
        let expected = r#"[{"status":201,"messageId":"1"},{"status":404,"error":"NOT_FOUND"}]"#;
        assert_eq!(both.body, expected);
        assert_eq!(reply([published].into_iter()).status, 201);
    }
}
