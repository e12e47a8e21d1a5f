//! The command line.
//!
//! Arguments ([`args`]) become requests to a running hub ([`client`]); what comes back is written for people or passed on
//! to programs as it is ([`screen`]). Exit codes: 0 done, 1 failed or partly failed, 2 wrong usage, 3 not found, 4 needs
//! confirmation, 5 unauthorised.

mod age;
mod args;
mod client;
mod columns;
mod confirm;
mod deliveries;
mod details;
mod failure;
mod failures;
mod findings;
mod follow;
mod local;
mod look;
mod outbox;
mod queues;
mod reconcile;
mod replays;
mod screen;
mod selection;
mod servers;
mod table;

#[cfg(test)]
mod tests;

pub use args::{Cli, DemoArgs, RunArgs};
use args::{Command, Role};
use client::Client;
use crossdock_engine::Roles;
pub use failure::Code;
use failure::Failure;
use screen::Screen;

/// Does what the arguments say, and tells on the standard error if that failed.
pub async fn run(cli: Cli) -> Code {
    let mut screen = Screen::standard(&cli.global);
    let ended = command(cli, &mut screen).await;
    finish(ended, &mut screen)
}

fn finish(ended: Result<Code, Failure>, screen: &mut Screen) -> Code {
    ended.unwrap_or_else(|failure| {
        screen.failure(&failure);
        failure.code
    })
}

async fn command(cli: Cli, screen: &mut Screen) -> Result<Code, Failure> {
    match cli.command {
        Command::Demo(args) => {
            let json = screen.output == args::Output::Json;
            let show = crate::demo::Show { live: screen.terminal, colour: screen.colour, json };
            finished(crate::demo::demo(args, show).await)
        }
        Command::Run(args) => start(args, screen).await,
        Command::Init { dir } => local::init(&dir, screen),
        Command::Check { file, online } => local::check(&file, online, screen).await,
        Command::Plan { of, apply } => servers::plan(of, apply, screen).await,
        Command::Migrate(of) => servers::migrate(of, screen).await,
        Command::Outbox(command) => outbox::outbox(command, cli.global.actor.as_deref(), screen).await,
        Command::Completions { shell } => local::completions(shell, screen),
        remote => ask(remote, &Client::new(&cli.global)?, screen).await,
    }
}

/// The commands that speak to a running hub.
async fn ask(command: Command, client: &Client, screen: &mut Screen) -> Result<Code, Failure> {
    match command {
        Command::Flow(command) => look::flow(command, client, screen).await,
        Command::Connection(command) => look::connection(command, client, screen).await,
        Command::Event(command) => look::event(command, client, screen).await,
        Command::Failures(command) => failures::failures(command, client, screen).await,
        Command::Replay(command) => replays::replay(command, client, screen).await,
        _ => look::status(client, screen).await,
    }
}

async fn start(args: RunArgs, screen: &mut Screen) -> Result<Code, Failure> {
    let loaded = servers::load(&args.of.file, "run", screen)?;
    finished(crate::run::run(loaded, roles(&args.roles)).await)
}

/// What a worker does; everything where nothing is said.
fn roles(named: &[Role]) -> Roles {
    let has = |role| named.is_empty() || named.contains(&role);
    Roles {
        ingest: has(Role::Ingest),
        relay: has(Role::Relay),
        deliver: has(Role::Deliver),
        api: has(Role::Api),
    }
}

fn finished(result: anyhow::Result<()>) -> Result<Code, Failure> {
    result.map(|()| Code::Ok).map_err(|error| Failure::new(Code::Failed, format!("{error:#}")))
}
