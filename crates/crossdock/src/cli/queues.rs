//! What `crossdock outbox reconcile` can tell of RabbitMQ, whose queues cannot be read without taking their events.

use crossdock_core::OutboxLog as _;
use crossdock_postgres::Postgres;
use crossdock_rabbitmq::Depth;
use serde_json::{Value, json};

use super::{
    args::Output,
    failure::{Code, Failure},
    outbox::failed,
    screen::Screen,
    table::{self, Column, Show, column},
};

const DEPTHS: &[Column] = &[
    column("FLOW", "/flow", Show::Name),
    column("TOPIC", "/topic", Show::Name),
    column("QUEUES", "/queues", Show::Count),
    column("MISSING", "/missing_count", Show::Count),
    column("WAITING", "/waiting", Show::Count),
];

/// What is not told, and who tells it.
const NOT_COMPARED: &str = "single events were not compared: RabbitMQ shows nothing of a queue without giving its events away. \
    A worker that reads a queue notices what is missing from it when the next event comes, and logs `events are missing` with the time";

/// Shows which queues are there and how much waits in them, and up to where the broker has confirmed everything. Fails in the end: that is no
/// comparison.
pub async fn tell(depths: &[Depth], postgres: &Postgres, screen: &mut Screen) -> Result<Code, Failure> {
    let (_, position) = postgres.outbox_reach().await.map_err(|error| failed(&error))?;
    let status = postgres.status().await.map_err(|error| failed(&error))?;
    let rows: Vec<_> = depths.iter().map(row).collect();
    if screen.output == Output::Json {
        let told = json!({
            "compared": 0, "confirmed_up_to": position, "gaps": status.gaps, "refused": status.refused, "queues": rows,
        });
        screen.json(&told.to_string())?;
    } else {
        let drawn = table::render(&rows, DEPTHS, screen);
        screen.line(&drawn)?;
        screen.line(&format!(
            "RabbitMQ has confirmed everything up to row {position}, apart from {} gaps and {} rows that were refused",
            status.gaps, status.refused
        ))?;
    }
    let missing: Vec<_> = depths.iter().flat_map(|depth| &depth.missing).map(String::as_str).collect();
    let failure = match missing.is_empty() {
        true => Failure::new(Code::Failed, NOT_COMPARED),
        false => Failure::new(
            Code::Failed,
            format!(
                "queues are missing, and the events that were in them: {}; {NOT_COMPARED}",
                missing.join(", ")
            ),
        ),
    };
    Err(failure.next("crossdock outbox rewind SEQ publishes everything from a row on once more"))
}

fn row(depth: &Depth) -> Value {
    let Depth { group, topic, there, missing, waiting } = depth;
    json!({
        "flow": group, "topic": topic, "queues": there, "missing": missing, "missing_count": missing.len(), "waiting": waiting,
    })
}
