//! Reads the body of a request, within its limits.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::{
    Api, Problem,
    budget::Share,
    inflate::{coding, inflate, too_large},
    problem::Kind,
};

/// A body, and its share of the budget for as long as it is worked on.
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    share: Share,
}

impl Taken {
    /// Counts what was made of the body, for as long as it is worked on.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        self.share.grow(bytes)
    }
}

/// Reads the whole body and takes its content coding off. What is announced as too large is not read at all.
pub(crate) async fn read(api: &Api, headers: &HeaderMap, body: Body) -> Result<Taken, Problem> {
    let options = &api.options;
    let refused = coding(headers).and_then(|coding| {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let fits = announced
            .is_none_or(|bytes: u64| u64::try_from(options.body_bytes_max).is_ok_and(|max| bytes <= max));
        if fits { Ok(coding) } else { Err(too_large(options.body_bytes_max)) }
    });
    let coding = match refused {
        Ok(coding) => coding,
        Err(problem) => {
            linger(headers, body);
            return Err(problem);
        }
    };
    let mut share = api.budget.share();
    let collected =
        timeout(options.body_timeout, collect(headers, body, options.body_bytes_max, &mut share)).await;
    let packed = collected.unwrap_or_else(|_| {
        let seconds = options.body_timeout.as_secs_f64();
        Err(Problem::new(Kind::TIMEOUT, format!("the body was not there after {seconds} seconds")))
    })?;
    let arrived = packed.len();
    let bytes = inflate(coding, packed, options.body_bytes_max)?;
    share.grow(bytes.len().saturating_sub(arrived))?;
    Ok(Taken { bytes, share })
}

async fn collect(
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::malformed("", "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > bytes_max {
            linger(headers, body);
            return Err(too_large(bytes_max));
        }
        share.grow(data.len())?;
        // Nearly every body is one frame, which is passed on as it is.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Throws away what a client still sends after it was refused, for a moment: a connection that is closed over unread
/// bytes is reset, and the client would not see the answer. One that waits to be told to go on sends nothing more.
pub(crate) fn linger(headers: &HeaderMap, mut body: Body) {
    const BYTES_MAX: usize = 16 << 20;
    const AT_MOST: Duration = Duration::from_secs(2);
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let drain = async move {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > BYTES_MAX {
                break;
            }
        }
    };
    tokio::spawn(timeout(AT_MOST, drain));
}
