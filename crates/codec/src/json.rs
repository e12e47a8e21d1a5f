//! Data that claims to be JSON.

use crossdock_core::Malformed;
use serde_json::value::RawValue;

use crate::{
    refusal::refuse,
    scan::{Shape, scan},
};

/// Most levels of lists and objects in data; what expressions read, too.
const DEPTH_MAX: usize = 128;

/// Refuses bytes that are not JSON or that [`check_shape`] refuses. No bytes are no data, and fine. `name` is the member that
/// they came in.
pub(crate) fn check(name: &str, bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.is_empty() {
        return Ok(());
    }
    let _: &RawValue = serde_json::from_slice(bytes)
        .map_err(|error| refuse(name, format!("is not JSON, as its media type says: {error}")))?;
    check_shape(name, bytes)
}

/// Refuses JSON that is well-formed but that readers fail on or change.
pub(crate) fn check_shape(name: &str, json: &[u8]) -> Result<(), Malformed> {
    let Shape { depth, lone_surrogate, .. } = scan(json);
    if depth > DEPTH_MAX {
        return Err(refuse(name, format!("is nested deeper than {DEPTH_MAX} levels")));
    }
    if lone_surrogate {
        let what = "holds half of a surrogate pair (`\\ud800` to `\\udfff`), which is no character";
        return Err(refuse(name, what));
    }
    Ok(())
}
