//! `crossdock demo`: everything in one process.
//!
//! The hub is the real one, on its embedded store, with an ordinary configuration (`demo/crossdock.yaml`). Around it are
//! simulated systems on loopback ([`systems`]), a script of failures ([`script`]), and judges that compare what the shop
//! sent with what the CRM's own ledger has ([`evidence`]). [`tour`] brings them together and tells it on a [`screen`].

mod evidence;
mod folder;
mod glance;
mod line;
mod screen;
mod script;
mod sights;
mod story;
mod systems;
mod tour;
mod typed;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use crossdock_core::RetryPolicy;
use crossdock_engine::Roles;

use crate::{
    cli::DemoArgs,
    config::Loaded,
    entrance, logs,
    run::{self, Running},
    stop::Stop,
};
use folder::Folder;
use screen::Screen;
pub use screen::Show;
use sights::{Sight, Sights};
use systems::Systems;
use tour::{Ended, Parts, Tour};
use typed::Typed;

/// How long deliveries that are out may take to finish at the end.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Shows everything, until Ctrl-C or for so many seconds; those must have been enough to see all that is promised.
pub async fn demo(args: DemoArgs, show: Show) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut stop = Stop::listen()?;
    let (sender, lines) = mpsc::channel();
    logs::init_into(sender);
    if !args.listen.ip().is_loopback() {
        bail!(
            "the demo's API has no token, so it listens on a loopback address alone, such as 127.0.0.1:8080"
        );
    }
    let folder = Folder::make(args.keep.as_deref())?;
    let systems = Systems::start().await.context("failed to start the simulated systems")?;
    let loaded = folder.load(args.listen, &systems)?;
    let policy = policy_of_crm(&loaded)?;
    let running = start(loaded, args.listen).await?;
    let address = running.address;
    let mut screen = Screen::standard(show);
    if let Err(error) = screen.prose(&greeting(address, &folder)) {
        return read_no_more(error.into());
    }
    let (hub, typed) = (running.hub.clone(), Typed::here(address));
    let parts = Parts { began, systems: &systems, hub, address, policy, typed, screen, logs: lines };
    let mut tour = Tour::begin(parts);
    let timed_out = tokio::select! {
        result = tour.run() => result.map(|()| false),
        () = stop.asked() => Ok(false),
        () = after(began, args.seconds) => Ok(true),
    };
    let ended = tokio::select! {
        ended = Box::pin(end(tour, running)) => ended,
        () = stop.asked() => bail!("ended at once, because it was told twice"),
    };
    let judged = timed_out.and_then(|timed_out| farewell(ended?, timed_out, &systems, &folder));
    systems.stop().await;
    judged.or_else(read_no_more)
}

/// How the flow to the CRM tries again: what the CRM's ledger is compared with.
fn policy_of_crm(loaded: &Loaded) -> anyhow::Result<RetryPolicy> {
    let flow = loaded.plan.flows.iter().find(|flow| flow.connection.as_str() == "crm");
    flow.map(|flow| flow.retry.clone()).context("the demo's configuration has no flow to the CRM")
}

async fn start(loaded: Loaded, listen: SocketAddr) -> anyhow::Result<Running> {
    run::start(loaded, Roles::default()).await.map_err(|error| match entrance::is_taken(&error) {
        true => anyhow::anyhow!(
            "{listen} is taken, perhaps by another hub; `crossdock demo --listen 127.0.0.1:0` takes a free port"
        ),
        false => error,
    })
}

fn greeting(hub: SocketAddr, folder: &Folder) -> String {
    let (path, fate) =
        (folder.path().display(), if folder.is_kept() { "kept" } else { "thrown away at the end" });
    format!(
        "crossdock {} demo: the real hub on its embedded store; a shop, a CRM and a warehouse are simulated\n  \
         API     http://{hub}\n  config  {path}/crossdock.yaml\n  data    {path}/data ({fate})\n",
        env!("CARGO_PKG_VERSION"),
    )
}

/// The end of the time, if there is one.
async fn after(began: Instant, seconds: Option<u64>) {
    match seconds {
        Some(seconds) => tokio::time::sleep_until((began + Duration::from_secs(seconds)).into()).await,
        None => std::future::pending().await,
    }
}

/// Takes nothing new in, lets what is out arrive, tells the rest.
async fn end(mut tour: Tour<'_>, running: Running) -> anyhow::Result<Ended> {
    tour.close_shop();
    let said = tour.note("stopping: nothing new is taken in, what is out may finish");
    // Also if nobody reads any more.
    let finished = running.stop(STOP_WITHIN).await;
    said?;
    if !finished {
        tour.note("something was still out after 20 s; it would come again after the next start")?;
    }
    Ok(tour.end().await?)
}

/// Sums up, and says what comes next. Fails if the time was up and not everything was seen.
fn farewell(ended: Ended, timed_out: bool, systems: &Systems, folder: &Folder) -> anyhow::Result<()> {
    let Ended { mut screen, typed, sights } = ended;
    screen.end_block()?;
    let tally = systems.crm.ledger().tally();
    screen.prose(&summary(&sights))?;
    screen.prose(&format!(
        "By the CRM's own ledger: {} events of {} orders, {} out of order, {} twice.",
        tally.accepted, tally.keys, tally.out_of_order, tally.twice
    ))?;
    if folder.is_kept() {
        screen.prose(&format!("The data is in {}.", folder.path().display()))?;
    }
    screen.prose(&format!(
        "\nNext: {}   writes a configuration of your own to begin with",
        typed.local("init my-hub")
    ))?;
    let mut missing: Vec<_> = sights.missing().into_iter().map(Sight::promise).collect();
    if tally.out_of_order > 0 {
        missing.push("the events of every order in order to the end");
    }
    if timed_out && !missing.is_empty() {
        bail!("not everything was seen; it lacked: {}", missing.join("; "));
    }
    Ok(())
}

fn summary(sights: &Sights) -> String {
    let line =
        |sight: Sight| format!("\n  {} {}", if sights.has(sight) { "✓" } else { "-" }, sight.promise());
    let lines: String = Sight::ALL.into_iter().map(line).collect();
    format!("\nYou have seen{lines}")
}

/// That nobody reads any more (`| head`) is no failure.
fn read_no_more(error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(ErrorKind::BrokenPipe) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_what_was_seen_and_what_was_not() {
        let mut sights = Sights::default();
        sights.see(Sight::Outage);
        let summary = summary(&sights);
        assert!(summary.contains("✓ a CRM outage") && summary.contains("- a duplicate webhook"), "{summary}");
        assert_eq!(sights.missing().len(), Sight::ALL.len() - 1);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_anything_else_is() {
        let error = |kind| anyhow::Error::from(std::io::Error::from(kind));
        assert!(read_no_more(error(ErrorKind::BrokenPipe)).is_ok());
        assert!(read_no_more(error(ErrorKind::StorageFull)).is_err());
    }
}
