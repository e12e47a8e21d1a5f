//! The rows of the table.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use crossdock_sim::{
    Answer, LedgerOptions, Rule, Sink, SinkOptions,
    load::{Load, Pace, Payload, Report},
};

use crate::process::Measured;

/// How large a run is, in parts of a thousand of the full size.
#[derive(Clone, Copy)]
pub struct Size(u64);

impl Size {
    pub const FULL: Self = Self(1000);
    pub const QUICK: Self = Self(100);

    pub fn of(self, full: u64) -> u64 {
        full * self.0 / 1000
    }
}

/// What a row came to.
pub struct Figures {
    pub text: String,
    pub reached: bool,
}

type Run = Pin<Box<dyn Future<Output = anyhow::Result<Figures>>>>;

/// A row of the table.
pub struct Row {
    pub name: &'static str,
    pub about: &'static str,
    pub target: &'static str,
    pub run: fn(Size) -> Run,
}

/// All rows, in the order of the table.
pub fn all() -> Vec<Row> {
    embedded().into_iter().chain(crate::real::rows()).collect()
}

fn embedded() -> [Row; 6] {
    [
        Row { name: "start", about: "start to ready", target: "≤ 300 ms", run: |_| Box::pin(start()) },
        Row {
            name: "single",
            about: "accept over HTTP, one event a request, 64 connections",
            target: "≥ 8,000 events/s",
            run: |size| Box::pin(single(size)),
        },
        Row {
            name: "batch",
            about: "accept in batches of 100",
            target: "≥ 40,000 events/s",
            run: |size| Box::pin(batch(size)),
        },
        Row {
            name: "backlog",
            about: "accepted → delivered, signed, backlog of 1 M × 1 KiB",
            target: "≥ 20,000 deliveries/s, ≤ 150 MiB",
            run: |size| Box::pin(backlog(size)),
        },
        Row {
            name: "steady",
            about: "steady 2,000 events/s, accept → sink",
            target: "p50 ≤ 5 ms, p99 ≤ 50 ms",
            run: |size| Box::pin(steady(size)),
        },
        Row {
            name: "retries",
            about: "100,000 due retries fired",
            target: "≥ 20,000/s",
            run: |size| Box::pin(retries(size)),
        },
    ]
}

fn config(sink: &Sink, retry: &str) -> String {
    format!(
        "data: ./data
listen: 127.0.0.1:0
topics: [load]
connections:
  sink:
    connector: http
    circuit: off
    config:
      base_url: {url}
      signing_secret: \"${{env.TRACKER_SECRET}}\"
flows:
  load-to-sink:
    from: {{ topic: load }}
    to: {{ connection: sink, action: post, path: /load }}
    retry: {{ schedule: [{retry}], jitter: 0 }}
",
        url = sink.url()
    )
}

async fn sink(latency: bool) -> anyhow::Result<Sink> {
    let ledger = LedgerOptions::counts_only();
    Sink::start(SinkOptions { ledger, latency, ..SinkOptions::default() })
        .await
        .context("failed to start the sink")
}

async fn load(
    hub: &Measured,
    payload: Payload,
    connections: usize,
    pace: Pace,
    requests: u64,
) -> anyhow::Result<Report> {
    let load = Load {
        target: hub.address,
        path: "/v1/topics/load/events".to_owned(),
        headers: Vec::new(),
        payload,
        connections,
        pace,
        requests,
        at_most: Duration::from_secs(300),
    };
    let report = load.run().await?;
    ensure!(report.refused.is_empty() && report.unanswered == 0, "not every event was taken: {report:?}");
    Ok(report)
}

async fn start() -> anyhow::Result<Figures> {
    let sink = sink(false).await?;
    let mut times = Vec::new();
    let mut folder = None;
    for _ in 0..5 {
        let config = config(&sink, "1s");
        let hub = match folder.take() {
            Some(folder) => Measured::start_in(folder, &config).await?,
            None => Measured::start(&config).await?,
        };
        times.push(hub.ready_after);
        folder = Some(hub.end().await?);
    }
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2].as_millis(), times[times.len() - 1].as_millis());
    Ok(Figures { text: format!("{median} ms (longest of {}: {most} ms)", times.len()), reached: most <= 300 })
}

/// Accepting is measured with the connection paused, so that nothing is delivered meanwhile.
async fn accept(payload: Payload, connections: usize, requests: u64, target: f64) -> anyhow::Result<Figures> {
    let sink = sink(false).await?;
    let hub = Measured::start(&config(&sink, "1s")).await?;
    hub.set_connection("paused").await?;
    let report = load(&hub, payload, connections, Pace::Full, requests).await?;
    let cpu = hub.cpu()?.as_secs_f64() * 1e6 / report.events_accepted as f64;
    let text = format!(
        "{:.0} events/s (answer p50 {:.1} ms, p99 {:.1} ms; {cpu:.0} µs of the hub's processor time an event)",
        report.events_per_second,
        report.latency_p50_us as f64 / 1000.0,
        report.latency_p99_us as f64 / 1000.0
    );
    Ok(Figures { text, reached: report.events_per_second >= target })
}

async fn single(size: Size) -> anyhow::Result<Figures> {
    accept(Payload::single("single", 10_000, 100), 64, size.of(200_000), 8_000.0).await
}

async fn batch(size: Size) -> anyhow::Result<Figures> {
    accept(Payload::batch("batch", 100, 10_000, 100), 8, size.of(10_000), 40_000.0).await
}

async fn backlog(size: Size) -> anyhow::Result<Figures> {
    let events = size.of(1_000_000);
    let sink = sink(false).await?;
    let hub = Measured::start(&config(&sink, "1s")).await?;
    hub.set_connection("paused").await?;
    load(&hub, Payload::batch("backlog", 100, 10_000, 960), 8, Pace::Full, events / 100).await?;
    let (began, cpu) = (Instant::now(), hub.cpu()?);
    hub.set_connection("ok").await?;
    sink.ledger().wait_for_accepted(events, Duration::from_secs(600)).await?;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    let cpu = (hub.cpu()? - cpu).as_secs_f64() * 1e6 / events as f64;
    let resident = hub.resident_max_mib();
    let twice = sink.ledger().counts().accepted - events;
    ensure!(twice == 0, "{twice} were delivered twice");
    let text = format!(
        "{rate:.0} deliveries/s, {resident:.0} MiB ({cpu:.0} µs of the hub's processor time a delivery)"
    );
    Ok(Figures { text, reached: rate >= 20_000.0 && resident <= 150.0 })
}

async fn steady(size: Size) -> anyhow::Result<Figures> {
    let sink = sink(true).await?;
    let hub = Measured::start(&config(&sink, "1s")).await?;
    let events = size.of(60_000);
    load(&hub, Payload::single("steady", 10_000, 400), 64, Pace::Rate(2_000.0), events).await?;
    sink.ledger().wait_for_accepted(events, Duration::from_secs(60)).await?;
    let latency = sink.latency().context("the sink measures")?;
    let ms = |quantile| latency.quantile(quantile).as_secs_f64() * 1000.0;
    let (p50, p99, most) = (ms(0.5), ms(0.99), latency.max().as_secs_f64() * 1000.0);
    Ok(Figures {
        text: format!("p50 {p50:.1} ms, p99 {p99:.1} ms, longest {most:.0} ms"),
        reached: p50 <= 5.0 && p99 <= 50.0,
    })
}

async fn retries(size: Size) -> anyhow::Result<Figures> {
    let events = size.of(100_000);
    let sink = sink(false).await?;
    // Longer than it takes for all of them to fail once, so that none is due before the last one has failed.
    let wait = Duration::from_secs(20);
    let hub = Measured::start(&config(&sink, "20s, 20s")).await?;
    hub.set_connection("paused").await?;
    load(&hub, Payload::batch("retries", 100, 10_000_000, 100), 8, Pace::Full, events / 100).await?;
    sink.script().push(Rule::any(), Answer::status(503));
    let began = Instant::now();
    hub.set_connection("ok").await?;
    sink.ledger().wait_for(events, wait).await.context("they did not all fail before the first came due")?;
    hub.wait_status(|status| status["held"] == events, Duration::from_secs(60)).await?;
    hub.set_connection("paused").await?;
    sink.script().clear();
    tokio::time::sleep_until((began + 2 * wait).into()).await;
    let began = Instant::now();
    hub.set_connection("ok").await?;
    sink.ledger().wait_for_accepted(events, Duration::from_secs(120)).await?;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    Ok(Figures { text: format!("{rate:.0}/s ({events} fired)"), reached: rate >= 20_000.0 })
}
