//! `replay …`: dead letters are sent again.

use crossdock_core::GroupId;
use serde_json::{Value, json};

use super::{
    args::{Act, Change, Output, ReplayCommand},
    client::{Client, Reply},
    columns, confirm,
    failure::{Code, Failure},
    follow,
    screen::Screen,
    selection::{Rate, Selected},
};

/// Runs one of them.
pub async fn replay(command: ReplayCommand, client: &Client, screen: &mut Screen) -> Result<Code, Failure> {
    match command {
        ReplayCommand::Test { id, group, reason } => test(id, group, &reason, client, screen).await,
        ReplayCommand::Create { selected, rate, act, wait, detach } => {
            let person = screen.aside_terminal && screen.output == Output::Table && !screen.quiet;
            create(selected, rate, act, wait || person && !detach, client, screen).await
        }
        ReplayCommand::List { part } => {
            let reply = client.list(&["replays"], &[], &part).await?;
            screen.list(
                &reply,
                columns::REPLAYS,
                "no replays; `crossdock failures groups` shows what can be replayed",
            )?;
            Ok(Code::Ok)
        }
        ReplayCommand::Show { id, follow: true } => follow::follow(&id, client, screen).await,
        ReplayCommand::Show { id, follow: false } => {
            let reply = client.get(&["replays", &id], &[]).await?;
            screen.one(&reply)?;
            Ok(Code::Ok)
        }
        ReplayCommand::Pause(change) => set(change, json!({ "state": "paused" }), client, screen).await,
        ReplayCommand::Resume(change) => set(change, json!({ "state": "running" }), client, screen).await,
        ReplayCommand::Cancel(change) => set(change, json!({ "state": "cancelled" }), client, screen).await,
        ReplayCommand::Set { change, rate } => set(change, json!({ "rate": rate.0 }), client, screen).await,
    }
}

/// Sends one and says how it went: exit with 0 if it was delivered, with 1 if not.
async fn test(
    id: Option<String>,
    group: Option<String>,
    reason: &str,
    client: &Client,
    screen: &mut Screen,
) -> Result<Code, Failure> {
    let (what, id) = match (id, group) {
        (Some(id), _) => ("dead_letter", id),
        (None, group) => ("group", group.unwrap_or_default()),
    };
    let reply = match client.test(what, &id, reason).await {
        Err(missing) if missing.code == Code::NotFound && what == "group" => {
            return Err(confirm::none_open(&GroupId::from(id), client).await?);
        }
        other => other?,
    };
    screen.one(&reply)?;
    let delivered = reply.value.get("outcome").and_then(Value::as_str) == Some("delivered");
    Ok(if delivered { Code::Ok } else { Code::Failed })
}

async fn create(
    selected: Selected,
    rate: Option<Rate>,
    act: Act,
    wait: bool,
    client: &Client,
    screen: &mut Screen,
) -> Result<Code, Failure> {
    let selection = selected.selection((screen.now)());
    let rate = rate.and_then(|rate| rate.0);
    let plan = client.plan(&selection, rate).await?;
    if act.dry_run {
        confirm::preview(&plan, screen)?;
        return Ok(Code::Ok);
    }
    confirm::something(&plan, &selection, client).await?;
    confirm::ask(&plan, "sent again", "Replay them?", act.yes, screen)?;
    let reply = client.replay(&selection, rate, &act.reason.unwrap_or_default()).await?;
    let id = reply.value.get("id").and_then(Value::as_str).unwrap_or_default();
    if wait {
        screen.hint(&format!("replay {id} runs; it goes on without us after Ctrl-C"));
        return follow::follow(id, client, screen).await;
    }
    made(&reply, id, screen)?;
    Ok(Code::Ok)
}

fn made(reply: &Reply, id: &str, screen: &mut Screen) -> Result<(), Failure> {
    screen.one(reply)?;
    screen.suggest(&format!("crossdock replay show {id} --follow"));
    Ok(())
}

async fn set(change: Change, mut what: Value, client: &Client, screen: &mut Screen) -> Result<Code, Failure> {
    what["reason"] = json!(change.reason);
    let reply = client.change(&["replays", &change.id], what).await?;
    screen.one(&reply)?;
    Ok(Code::Ok)
}
