//! Commands that look at a hub: status, flows, connections, events. (And the two that pause and resume a connection.)

use serde_json::{Value, json};

use super::{
    args::{ConnectionCommand, EventCommand, FlowCommand, Output},
    client::Client,
    columns,
    failure::{Code, Failure},
    screen::Screen,
    table::text,
};

/// The hub at a glance. Exit with 1 if something needs a person.
pub async fn status(client: &Client, screen: &mut Screen) -> Result<Code, Failure> {
    let reply = client.get(&["status"], &[]).await?;
    let healthy = reply.value.get("state").and_then(|state| state.as_str()) != Some("degraded");
    let mut rest = reply.value.clone();
    let problems = rest.as_object_mut().and_then(|fields| fields.shift_remove("problems"));
    match screen.output {
        Output::Json => screen.json(&reply.text)?,
        Output::Table => {
            let details = super::details::render(&rest, screen);
            screen.line(&details)?;
            for problem in problems.iter().flat_map(|list| list.as_array()).flatten() {
                screen.line(&format!("! {}", text(Some(problem))))?;
            }
            if reply.value.get("dead").and_then(Value::as_u64) > Some(0) {
                screen.suggest("crossdock failures groups");
            }
        }
    }
    Ok(if healthy { Code::Ok } else { Code::Failed })
}

/// `flow …`
pub async fn flow(command: FlowCommand, client: &Client, screen: &mut Screen) -> Result<Code, Failure> {
    let FlowCommand::List = command;
    let reply = client.get(&["flows"], &[]).await?;
    screen.list(
        &reply,
        columns::FLOWS,
        "no flows; describe one under `flows:` in crossdock.yaml and start the hub again",
    )?;
    Ok(Code::Ok)
}

/// `connection …`
pub async fn connection(
    command: ConnectionCommand,
    client: &Client,
    screen: &mut Screen,
) -> Result<Code, Failure> {
    let reply = match command {
        ConnectionCommand::List => {
            let reply = client.get(&["connections"], &[]).await?;
            let empty =
                "no connections; describe one under `connections:` in crossdock.yaml and start the hub again";
            screen.list(&reply, columns::CONNECTIONS, empty)?;
            return Ok(Code::Ok);
        }
        ConnectionCommand::Show { name } => client.get(&["connections", &name], &[]).await?,
        ConnectionCommand::Pause { name, reason } => {
            client.change(&["connections", &name], json!({ "state": "paused", "reason": reason })).await?
        }
        ConnectionCommand::Resume { name, reason } => {
            client.change(&["connections", &name], json!({ "state": "ok", "reason": reason })).await?
        }
    };
    screen.one(&reply)?;
    Ok(Code::Ok)
}

/// `event …`
pub async fn event(command: EventCommand, client: &Client, screen: &mut Screen) -> Result<Code, Failure> {
    match command {
        EventCommand::List { topic, part } => {
            let query: Vec<_> = topic.map(|topic| ("topic", topic)).into_iter().collect();
            let reply = client.list(&["events"], &query, &part).await?;
            let empty =
                "no events; webhooks come to POST /in/CONNECTION, others to POST /v1/topics/TOPIC/events";
            screen.list(&reply, columns::EVENTS, empty)?;
        }
        EventCommand::Show { id } => {
            let reply = client.get(&["events", &id], &[]).await?;
            screen.one(&reply)?;
        }
    }
    Ok(Code::Ok)
}
