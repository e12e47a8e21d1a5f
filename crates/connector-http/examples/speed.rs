//! Signed calls per second over loopback, the receiver included: `cargo run --release -p crossdock-connector-http
//! --example speed [CALLS] [AT A TIME]`. Two worker threads, as on the machine that the targets are set for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use crossdock_connector_http::Http;
use crossdock_sdk::{Action, Body, ConnectionName, Connector, Environment, Item, Setting, Settings};
use crossdock_sim::{LedgerOptions, Sink, SinkOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let calls = arguments.next().unwrap_or(Ok(200_000))?;
    let at_a_time = arguments.next().unwrap_or(Ok(64))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(calls, at_a_time))
}

async fn measure(calls: u64, at_a_time: u64) -> Result<(), Box<dyn std::error::Error>> {
    let ledger = LedgerOptions { entries: false, ..LedgerOptions::default() };
    let sink = Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await?;
    let action = connect(&sink.url())?;
    let (next, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let tasks: Vec<_> =
        (0..at_a_time).map(|_| tokio::spawn(deliver(action.clone(), next.clone(), calls))).collect();
    for task in tasks {
        task.await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let accepted = sink.ledger().counts().accepted;
    println!("{accepted} of {calls} calls in {seconds:.2} s: {:.0} a second", accepted as f64 / seconds);
    Ok(())
}

fn connect(url: &str) -> Result<Arc<dyn Action>, Box<dyn std::error::Error>> {
    let settings = [
        ("base_url", Setting::Text(url.to_owned())),
        ("signing_secret", Setting::Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into())),
    ];
    let settings = Settings(
        settings.map(|(name, setting)| (name.to_owned(), setting)).into_iter().collect::<BTreeMap<_, _>>(),
    );
    let connection =
        Http::new().connect(&ConnectionName::new("sink")?, &settings, Environment { loopback: true })?;
    connection.action("post").ok_or_else(|| "there is no action `post`".into())
}

/// One call after the other, as a lane makes them.
async fn deliver(action: Arc<dyn Action>, next: Arc<AtomicU64>, calls: u64) -> Result<(), String> {
    let bytes = Bytes::from(format!("{{\"data\":\"{}\"}}", "x".repeat(1000)));
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= calls {
            return Ok(());
        }
        let item = Item {
            fields: vec![("path", "/orders".into())],
            body: Body { content_type: Some("application/json".to_owned()), bytes: bytes.clone() },
            idempotency_key: format!("event-{n}_0123456789abcdef"),
            attempt: 1,
            traceparent: None,
        };
        for output in action.call(std::slice::from_ref(&item)).await {
            output.result.map_err(|fault| fault.message)?;
        }
    }
}
