//! Who does it and why.

use axum::http::HeaderMap;
use crossdock_core::{Act, Selection};

use crate::{Problem, problem::Kind, selection};

const ACTOR: &str = "x-crossdock-actor";
const ACTOR_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 1024;

/// How many events an act may touch; more than one needs a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touches {
    /// One, or none.
    One,
    /// More than one.
    Many,
}

impl Touches {
    /// What an act on these dead letters touches.
    pub(crate) fn by(selection: &Selection) -> Self {
        if selection::is_many(selection) { Self::Many } else { Self::One }
    }
}

/// The act of a request: `X-Crossdock-Actor` (or `api`), and the reason of its body.
pub(crate) fn act(headers: &HeaderMap, reason: Option<String>, touches: Touches) -> Result<Act, Problem> {
    let reason = reason.unwrap_or_default().trim().to_owned();
    if reason.is_empty() && touches == Touches::Many {
        let detail = "this touches more than one event: say why in `reason`, it is kept in the audit table";
        return Err(Problem { pointer: Some("/reason".to_owned()), ..Problem::new(Kind::REASON, detail) });
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(Problem::malformed(
            "/reason",
            format!("`reason` is longer than {REASON_BYTES_MAX} bytes"),
        ));
    }
    Ok(Act { actor: actor(headers)?, reason })
}

fn actor(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(actor) = headers.get(ACTOR) else { return Ok("api".to_owned()) };
    let actor = std::str::from_utf8(actor.as_bytes()).unwrap_or_default().trim();
    let fits = (1..=ACTOR_BYTES_MAX).contains(&actor.len()) && !actor.chars().any(char::is_control);
    if fits {
        return Ok(actor.to_owned());
    }
    Err(Problem::new(
        Kind::MALFORMED,
        format!("the header `{ACTOR}` must be 1 to {ACTOR_BYTES_MAX} bytes of text"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_events_need_a_reason_and_one_does_not() {
        let headers = HeaderMap::new();
        assert!(act(&headers, Some(" ".to_owned()), Touches::Many).is_err());
        assert_eq!(act(&headers, None, Touches::One).unwrap().actor, "api");
        assert!(act(&headers, Some("x".repeat(1024)), Touches::Many).is_ok());
        assert!(act(&headers, Some("x".repeat(1025)), Touches::Many).is_err());
    }

    #[test]
    fn the_actor_is_who_the_header_says() {
        let headers = |actor: &str| HeaderMap::from_iter([(ACTOR.parse().unwrap(), actor.parse().unwrap())]);
        assert_eq!(act(&headers("ana"), None, Touches::One).unwrap().actor, "ana");
        assert!(act(&headers(""), None, Touches::One).is_err());
        assert!(act(&headers(&"a".repeat(129)), None, Touches::One).is_err());
    }
}
