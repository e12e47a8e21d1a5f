//! Every statement of the stores finds its rows by an index, shown by the plans with which the server really ran them: over
//! tables of 60,000 rows, with plans made for their values and with those that are kept for any value.
//!
//! The server tells each plan as a notice (`auto_explain`, for the test's database alone).

mod rows;
#[path = "../template/mod.rs"]
mod template;
mod usage;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, OnceLock},
};

use crossdock_postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use template::Database;
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Tables that are read from one end to the other because they are small: as many rows as there are partitions in flows, causes
/// of failures, replays, connections, workers and their leases.
const SMALL: [&str; 15] = [
    "places",
    "held_counts",
    "failure_groups",
    "replays",
    "replay_rates",
    "connections",
    "leases",
    "lease_workers",
    "checkpoints",
    "outbox_cursor",
    "outbox_seq_seq",
    // Partitions that are still empty.
    "outbox_1000001",
    "outbox_2000001",
    "outbox_3000001",
    "outbox_default",
];

/// The plans by the statement, each once.
static PLANS: OnceLock<Mutex<BTreeMap<String, String>>> = OnceLock::new();

/// Collects what the server tells.
struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::postgres::notice"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Notice);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Notice;

impl Visit for Notice {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" && value.contains("Query Text:") {
            let plan = value.split_once("plan:").map_or(value, |(_, plan)| plan);
            // One plan for each statement and each way in which it ran: a sequential scan among them is not hidden by others.
            let key = format!("{} {plan}", if plan.contains("Seq Scan") { "scans" } else { "" });
            let plans = PLANS.get_or_init(Mutex::default);
            plans.lock().expect("no holder panics").insert(key, plan.to_owned());
        }
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, format!("{value:?}").trim_matches('"').replace("\\n", "\n").as_str());
    }
}

/// The lines of a plan that read a large table from one end to the other.
fn scans(plan: &str) -> Vec<&str> {
    let small = |line: &str| SMALL.iter().any(|table| line.contains(&format!("Seq Scan on {table} ")));
    plan.lines().filter(|line| line.contains("Seq Scan on") && !small(line)).collect()
}

/// The plans so far.
fn plans() -> Vec<String> {
    let plans = PLANS.get().expect("some were told").lock().expect("no holder panics");
    plans.values().cloned().collect()
}

async fn explain_everything(database: &Database) {
    let name = &database.name;
    let mut server =
        PgConnection::connect(&crossdock_testkit::services::postgres()).await.expect("it answers");
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_level = 'notice'",
    ] {
        let sql = format!("ALTER DATABASE {name} SET {setting}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server).await.expect("the user may do everything");
    }
    server.close().await.expect("it closes");
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    let database = Database::create().await;
    let mut options = database.options();
    let store = Postgres::open(options.clone()).await.expect("it opens");
    rows::fill(&store).await;
    store.close().await;

    explain_everything(&database).await;
    tracing::subscriber::set_global_default(Collector).expect("nobody else collects");
    // One connection of each kind sees each statement often enough to keep a plan for any value.
    (options.pool, options.admin_pool) = (1, 1);
    let store = Postgres::open(options).await.expect("it opens");
    usage::read_pages(&store).await;
    let early = plans();
    assert!(early.len() >= 4, "{early:#?}");
    rows::vacuum(&store).await;
    for round in 0..9 {
        usage::use_everything(&store, round).await;
    }
    store.close().await;

    // The rows of a page come from an index in its order, nothing else is sorted before it is cut: also while the planner knows
    // an empty table.
    for plan in early.iter().filter(|plan| plan.contains("FROM crossdock.held")) {
        let (_, cut) = plan.split_once("Limit  (").expect("a page is cut");
        assert!(cut.contains("Index Scan using held_") && !cut.contains("Sort"), "{plan}");
    }
    let plans = plans();
    assert!(plans.len() > 60, "only {} plans were told", plans.len());
    for table in ["held", "letters", "letter_bodies", "replay_items", "outbox_1"] {
        let used = plans.iter().any(|plan| plan.contains(&format!(" on {table} ")));
        assert!(used, "no statement reads {table}");
    }
    let slow: Vec<_> =
        early.iter().chain(&plans).filter(|plan| !scans(plan).is_empty()).map(String::as_str).collect();
    assert!(slow.is_empty(), "{}", slow.join("\n\n"));
}

#[test]
fn a_scan_of_a_large_table_is_found() {
    let plan = "Query Text: SELECT 1\nNested Loop\n  ->  Seq Scan on places p  (cost=0)\n  ->  Seq Scan on held h  (cost=0)";
    assert_eq!(scans(plan), ["  ->  Seq Scan on held h  (cost=0)"]);
}
