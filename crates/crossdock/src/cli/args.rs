//! The grammar of the command line: `crossdock <noun> <verb> [ID…] [selection] [flags]`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::selection::{Conditions, Rate, Selected};

/// An event integration hub: every event reaches every system that must hear of it, in order, or waits where a person
/// can see it.
#[derive(Debug, Parser)]
#[command(
    name = "crossdock",
    version,
    disable_help_flag = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed or partly failed, 2 wrong usage, 3 not found, 4 needs confirmation, \
                  5 unauthorised."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The hub to talk to
    #[arg(
        long,
        global = true,
        env = "CROSSDOCK_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080"
    )]
    pub url: String,
    /// The hub's token
    #[arg(long, global = true, env = "CROSSDOCK_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Who you are, kept with what you change; your login name if nothing is said
    #[arg(long, global = true, value_name = "NAME", env = "CROSSDOCK_ACTOR", hide_env_values = true)]
    pub actor: Option<String>,
    /// Tables for people, or the API's JSON for programs
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// No colours; `NO_COLOR` does the same
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Only what was asked for: no hints, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print help
    #[arg(long, short, global = true, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and lines for people
    Table,
    /// The API's JSON
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process, with simulated systems and scripted failures
    Demo(DemoArgs),
    /// Write a commented configuration to begin with
    Init {
        /// The folder; made if it is not there
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Check a configuration: everything that is wrong, with its place
    Check {
        /// The configuration
        #[arg(default_value = "crossdock.yaml")]
        file: PathBuf,
        /// Also ask the store and the broker; exit with 1 if the hub could not work with them
        #[arg(long)]
        online: bool,
    },
    /// What `run` would make in the store and the broker, and what differs there; exit with 1 if anything does
    Plan {
        #[command(flatten)]
        of: Config,
        /// Make what is missing; what differs is never changed
        #[arg(long)]
        apply: bool,
    },
    /// Bring the tables in the store to what this version needs, as `run` does by itself
    Migrate(Config),
    /// Run the hub
    Run(RunArgs),
    /// The hub at a glance, and what is wrong with it; exit with 1 if anything is
    Status,
    /// Flows: how far they are
    #[command(subcommand)]
    Flow(FlowCommand),
    /// Connections: their state; pause and resume them
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// Events that came in, and what became of them
    #[command(subcommand)]
    Event(EventCommand),
    /// Dead letters, grouped by cause
    #[command(subcommand)]
    Failures(FailuresCommand),
    /// Send dead letters again
    #[command(subcommand)]
    Replay(ReplayCommand),
    /// The outbox in Postgres: how far it is read, what waits, what was refused
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Print a script that completes commands: `source <(crossdock completions bash)`
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Which configuration a command works with.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The configuration
    #[arg(long = "config", short = 'c', value_name = "FILE", default_value = "crossdock.yaml")]
    pub file: PathBuf,
}

/// What `run` takes.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub of: Config,
    /// What this worker does; all if nothing is said
    #[arg(long = "role", value_name = "ROLE,…", value_enum, value_delimiter = ',')]
    pub roles: Vec<Role>,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Takes webhooks and events in
    Ingest,
    /// Moves events from the outbox to the broker, if no other worker does
    Relay,
    /// Delivers events, together with other workers
    Deliver,
    /// Answers what people and programs ask
    Api,
}

/// What `demo` takes.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Keep the data in this folder instead of throwing it away at the end
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Where the hub listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// End after so many seconds; exit with 1 if not everything was seen by then
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
}

/// Which part of a list.
#[derive(Debug, Clone, Args)]
pub struct Part {
    /// How many items
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Where to go on: the `next` of the page before
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// Every flow with what it delivered and what waits
    List,
}

#[derive(Debug, Subcommand)]
pub enum ConnectionCommand {
    /// Every connection with its state
    List,
    /// One connection
    Show {
        /// Its name
        name: String,
    },
    /// Stop calling it; its events wait, nothing is dead-lettered
    Pause {
        /// Its name
        name: String,
        /// Why; kept with your name
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Go on calling it, also after its credential was refused
    Resume {
        /// Its name
        name: String,
        /// Why; kept with your name
        #[arg(long, value_name = "TEXT", default_value = "resumed from the command line")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// The latest events
    List {
        /// Only of this topic; what comes in through a connection is on `in.NAME`
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        #[command(flatten)]
        part: Part,
    },
    /// One event and what became of it in each flow
    Show {
        /// The event's id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum FailuresCommand {
    /// Causes, with the number of dead letters of each
    Groups {
        #[command(flatten)]
        conditions: Conditions,
        /// Only in this state; `open` if nothing is said
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        part: Part,
    },
    /// Dead letters, the newest first
    List {
        /// Only of this failure group
        #[arg(long, value_name = "ID")]
        group: Vec<String>,
        /// Only of this event
        #[arg(long, value_name = "ID")]
        event: Vec<String>,
        #[command(flatten)]
        conditions: Conditions,
        /// Only in this state; `open` if nothing is said
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        part: Part,
    },
    /// A dead letter with its payload, request and attempts, or a failure group
    Show {
        /// The id of a dead letter, of its event, or of a failure group
        id: String,
    },
    /// Give dead letters up; they are kept, but never sent again
    Discard {
        #[command(flatten)]
        selected: Selected,
        #[command(flatten)]
        act: Act,
    },
}

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Waits for a person
    Open,
    /// Belongs to a replay that has not finished with it
    Replaying,
    /// A replay delivered it
    Replayed,
    /// Given up
    Discarded,
}

/// How an act on many dead letters is done.
#[derive(Debug, Clone, Args)]
pub struct Act {
    /// Why; kept with your name
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    pub reason: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Only count
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum ReplayCommand {
    /// Send one dead letter now and wait for the answer
    Test {
        /// The id of a dead letter or of its event
        #[arg(required_unless_present = "group")]
        id: Option<String>,
        /// The oldest open dead letter of this failure group
        #[arg(long, value_name = "ID", conflicts_with = "id")]
        group: Option<String>,
        /// Why; kept with your name
        #[arg(long, value_name = "TEXT", default_value = "tested from the command line")]
        reason: String,
    },
    /// Send many dead letters again, in order, at a rate
    Create {
        #[command(flatten)]
        selected: Selected,
        /// How fast, for example `50/s`; as fast as it goes if nothing is said
        #[arg(long, value_name = "N/s")]
        rate: Option<Rate>,
        #[command(flatten)]
        act: Act,
        /// Wait until it has finished, as is done at a terminal anyway; exit with 1 if something failed again
        #[arg(long)]
        wait: bool,
        /// Do not wait, not even at a terminal
        #[arg(long, conflicts_with = "wait")]
        detach: bool,
    },
    /// Replays, the newest first
    List {
        #[command(flatten)]
        part: Part,
    },
    /// One replay
    Show {
        /// Its id
        id: String,
        /// Wait until it has finished; exit with 1 if something failed again
        #[arg(long)]
        follow: bool,
    },
    /// Send nothing more until it is resumed
    Pause(Change),
    /// Go on with a paused replay
    Resume(Change),
    /// Change the rate of a replay
    Set {
        #[command(flatten)]
        change: Change,
        /// How fast, for example `50/s`, or `max`
        #[arg(long, value_name = "N/s")]
        rate: Rate,
    },
    /// End a replay; what was not sent becomes open again
    Cancel(Change),
}

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Who reads it, how many events wait, since when
    Status(Config),
    /// Numbers that are missing and may still be committed, and who holds them
    Gaps(Config),
    /// Rows that the broker will never take, with the reason
    Refused {
        #[command(flatten)]
        of: Config,
        /// How many rows, the oldest first
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Send refused rows once more, for example after their topic was made
    Retry {
        #[command(flatten)]
        of: Config,
        #[command(flatten)]
        rows: Rows,
    },
    /// Give refused rows up
    Discard {
        #[command(flatten)]
        of: Config,
        #[command(flatten)]
        rows: Rows,
    },
    /// Compare what was sent with what the broker has; exit with 1 if anything is missing
    Reconcile {
        #[command(flatten)]
        of: Config,
        #[command(flatten)]
        range: Range,
        /// Send what is missing once more
        #[arg(long)]
        heal: bool,
    },
    /// Publish everything from a row on once more, in order: when the database was set back, or the broker lost what it had
    Rewind {
        #[command(flatten)]
        of: Config,
        /// The first row that is published again
        #[arg(value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
        seq: i64,
        /// Why; kept with your name
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Which rows of the outbox; the last 10,000 that were sent if nothing is said.
#[derive(Debug, Clone, Copy, Args)]
pub struct Range {
    /// From this row on
    #[arg(long, value_name = "SEQ", conflicts_with = "last", value_parser = clap::value_parser!(i64).range(1..))]
    pub since: Option<i64>,
    /// So many rows, the last ones
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..))]
    pub last: i64,
}

/// Refused rows and why something is done with them.
#[derive(Debug, Clone, Args)]
pub struct Rows {
    /// Their numbers
    #[arg(required = true, value_name = "SEQ")]
    pub seqs: Vec<i64>,
    /// Why; kept with your name
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// A change to a replay.
#[derive(Debug, Clone, Args)]
pub struct Change {
    /// Its id
    pub id: String,
    /// Why; kept with your name
    #[arg(long, value_name = "TEXT", default_value = "changed from the command line")]
    pub reason: String,
}
