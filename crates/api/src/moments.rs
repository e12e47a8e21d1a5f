//! What happens, as it happens.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::Uri,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use crossdock_engine::Moment;
use futures::stream;
use serde_json::json;
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{Receiver, error::RecvError},
};
use tokio_util::sync::CancellationToken;

use crate::{Answer, Api, Problem, problem::Kind, query};

/// How often a quiet stream says that it lives, so that proxies keep it.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

struct Watch {
    moments: Receiver<Moment>,
    closing: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// `GET /v1/moments`: server-sent events from now on, one moment each. A receiver that is too slow misses some and is told
/// how many by an event `missed`.
pub(crate) async fn stream(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    query::none(&uri)?;
    let permit = api.receivers.clone().try_acquire_owned().map_err(|_| {
        Problem::new(
            Kind::RECEIVERS,
            format!("{} receivers are connected already", api.options.receivers_max),
        )
    })?;
    let watch = Watch { moments: api.hub.moments(), closing: api.options.closing.clone(), _permit: permit };
    let events = stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        let moment = tokio::select! {
            moment = self.moments.recv() => moment,
            () = self.closing.cancelled() => return None,
        };
        match moment {
            // Names, numbers and moments: this cannot fail.
            Ok(moment) => Event::default().json_data(moment).ok(),
            Err(RecvError::Lagged(missed)) => {
                Event::default().event("missed").json_data(json!({ "missed": missed })).ok()
            }
            Err(RecvError::Closed) => None,
        }
    }
}
