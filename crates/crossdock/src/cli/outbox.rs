//! `crossdock outbox …`: these commands ask the database of the configuration themselves, whether a hub runs or not.

use crossdock_core::{Act, OutboxLog as _, StoreError, chain};
use crossdock_postgres::{OutboxGaps, Postgres};
use serde_json::{Value, json};

use super::{
    args::{Config, OutboxCommand, Output, Rows},
    client, details,
    failure::{Code, Failure},
    reconcile,
    screen::Screen,
    servers,
    table::{self, Column, Show, column},
};
use crate::wiring;

const REFUSED: &[Column] = &[
    column("SEQ", "/seq", Show::Name),
    column("TOPIC", "/topic", Show::Name),
    column("TYPE", "/type", Show::Name).if_it_fits(),
    column("KEY", "/key", Show::Name).if_it_fits(),
    column("REFUSED", "/refused_at", Show::Moment),
    column("WHY", "/reason", Show::Text),
];

const HOLDERS: &[Column] = &[
    column("PROCESS", "/pid", Show::Name),
    column("PREPARED", "/prepared", Show::Name).if_it_fits(),
    column("APPLICATION", "/application", Show::Name),
    column("USER", "/user", Show::Name).if_it_fits(),
    column("STATE", "/state", Show::Name),
    column("SINCE", "/since", Show::Moment),
];

/// Does what the arguments say; acts are done in the name of `actor`.
pub async fn outbox(
    command: OutboxCommand,
    actor: Option<&str>,
    screen: &mut Screen,
) -> Result<Code, Failure> {
    match command {
        OutboxCommand::Status(of) => status(&open(&of, screen).await?, screen).await,
        OutboxCommand::Gaps(of) => gaps(&open(&of, screen).await?, screen).await,
        OutboxCommand::Refused { of, limit } => refused(&open(&of, screen).await?, limit, screen).await,
        OutboxCommand::Retry { of, rows } => {
            let postgres = open(&of, screen).await?;
            let done = postgres.outbox_retry(&rows.seqs, &act(&rows.reason, actor)).await;
            settled("sent once more", &rows, done, screen)
        }
        OutboxCommand::Discard { of, rows } => {
            let postgres = open(&of, screen).await?;
            let done = postgres.outbox_discard(&rows.seqs, &act(&rows.reason, actor)).await;
            settled("given up", &rows, done, screen)
        }
        OutboxCommand::Reconcile { of, range, heal } => {
            let loaded = servers::load(&of.file, "used", screen)?;
            let postgres = opened(wiring::database(&loaded).await)?;
            reconcile::reconcile(
                &loaded,
                &postgres,
                range,
                heal.then(|| act("missing in the broker", actor)),
                screen,
            )
            .await
        }
        OutboxCommand::Rewind { of, seq, reason } => {
            let postgres = open(&of, screen).await?;
            rewind(&postgres, seq, &act(&reason, actor), screen).await
        }
    }
}

async fn rewind(postgres: &Postgres, seq: i64, act: &Act, screen: &mut Screen) -> Result<Code, Failure> {
    let (_, position) = postgres.outbox_reach().await.map_err(|error| failed(&error))?;
    if seq > position {
        let message = format!("row {seq} was not published yet: everything up to {position} was");
        return Err(Failure::new(Code::NotFound, message).next("crossdock outbox status"));
    }
    postgres.outbox_rewind(seq, act).await.map_err(|error| failed(&error))?;
    match screen.output {
        Output::Json => screen.json(&json!({ "from": seq, "reached": position }).to_string())?,
        Output::Table => screen.line(&format!("everything from row {seq} on is published once more"))?,
    }
    Ok(Code::Ok)
}

async fn open(of: &Config, screen: &mut Screen) -> Result<Postgres, Failure> {
    let loaded = servers::load(&of.file, "used", screen)?;
    opened(wiring::database(&loaded).await)
}

fn opened(opened: anyhow::Result<Option<Postgres>>) -> Result<Postgres, Failure> {
    match opened {
        Ok(Some(postgres)) => Ok(postgres),
        Ok(None) => {
            Err(Failure::new(Code::Failed, "there is no outbox beside the broker: its log is the outbox")
                .next("add `store: postgres://USER@HOST/DATABASE` to use Postgres"))
        }
        Err(error) => Err(Failure::new(Code::Failed, format!("{error:#}"))),
    }
}

fn act(reason: &str, actor: Option<&str>) -> Act {
    let actor = client::actor_of(actor).unwrap_or_else(|| "unknown".to_owned());
    Act { actor, reason: reason.to_owned() }
}

/// The failure of a store.
pub fn failed(error: &StoreError) -> Failure {
    Failure::new(Code::Failed, chain(error))
}

/// Exit with 1 if a row was refused.
async fn status(postgres: &Postgres, screen: &mut Screen) -> Result<Code, Failure> {
    let status = postgres.status().await.map_err(|error| failed(&error))?;
    let refused = status.refused > 0;
    show(&json!(status), screen)?;
    if refused {
        screen.suggest("crossdock outbox refused");
    } else if status.gaps > 0 {
        screen.suggest("crossdock outbox gaps");
    }
    Ok(if refused { Code::Failed } else { Code::Ok })
}

fn show(value: &Value, screen: &mut Screen) -> Result<(), Failure> {
    match screen.output {
        Output::Json => screen.json(&value.to_string())?,
        Output::Table => {
            let drawn = details::render(value, screen);
            screen.line(&drawn)?;
        }
    }
    Ok(())
}

async fn gaps(postgres: &Postgres, screen: &mut Screen) -> Result<Code, Failure> {
    let found = postgres.outbox_gaps().await.map_err(|error| failed(&error))?;
    if screen.output == Output::Json {
        screen.json(&json!(found).to_string())?;
        return Ok(Code::Ok);
    }
    let OutboxGaps { position, gaps, holders } = found;
    if gaps.is_empty() {
        screen.line(&format!("no gaps: everything up to {position} is in the broker"))?;
        return Ok(Code::Ok);
    }
    let range = |(first, last): &(i64, i64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let ranges = gaps.iter().map(range).collect::<Vec<_>>().join(", ");
    screen.line(&format!("everything up to {position} is in the broker, apart from {ranges}"))?;
    if holders.is_empty() {
        screen.line("no transaction can commit them any more: they are passed over with the next read")?;
        return Ok(Code::Ok);
    }
    screen.line("these transactions may still commit them:")?;
    let rows: Vec<_> = holders.iter().map(|holder| json!(holder)).collect();
    let drawn = table::render(&rows, HOLDERS, screen);
    screen.line(&drawn)?;
    Ok(Code::Ok)
}

async fn refused(postgres: &Postgres, limit: u32, screen: &mut Screen) -> Result<Code, Failure> {
    let rows = postgres.outbox_refused(0, limit).await.map_err(|error| failed(&error))?;
    let rows: Vec<_> = rows.iter().map(|row| json!(row)).collect();
    match screen.output {
        Output::Json => screen.json(&json!({ "items": rows, "next": null }).to_string())?,
        Output::Table if rows.is_empty() => screen.line("nothing is refused")?,
        Output::Table => {
            let drawn = table::render(&rows, REFUSED, screen);
            screen.line(&drawn)?;
            screen.suggest("crossdock outbox retry SEQ, or crossdock outbox discard SEQ, each with --reason");
        }
    }
    Ok(Code::Ok)
}

/// Exit with 3 if one of the rows is not there to be dealt with.
fn settled(
    what: &str,
    rows: &Rows,
    done: Result<Vec<i64>, StoreError>,
    screen: &mut Screen,
) -> Result<Code, Failure> {
    let done = done.map_err(|error| failed(&error))?;
    let missing: Vec<_> = rows.seqs.iter().filter(|seq| !done.contains(seq)).map(i64::to_string).collect();
    match screen.output {
        Output::Json => screen.json(&json!({ "settled": done, "not_refused": missing }).to_string())?,
        Output::Table => screen.line(&format!("{what}: {}", local_number(done.len())))?,
    }
    if missing.is_empty() {
        return Ok(Code::Ok);
    }
    let failure = Failure::new(Code::NotFound, format!("not among the refused rows: {}", missing.join(", ")));
    Err(failure.next("crossdock outbox refused"))
}

fn local_number(count: usize) -> String {
    format!("{count} {}", if count == 1 { "row" } else { "rows" })
}
