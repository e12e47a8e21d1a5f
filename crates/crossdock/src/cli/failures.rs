//! `failures …`: what was given up, by cause.

use clap::ValueEnum;

use super::{
    args::{FailuresCommand, State},
    client::{Client, Reply},
    columns, confirm,
    failure::{Code, Failure},
    screen::Screen,
    selection::Conditions,
};

/// Runs one of them.
pub async fn failures(
    command: FailuresCommand,
    client: &Client,
    screen: &mut Screen,
) -> Result<Code, Failure> {
    match command {
        FailuresCommand::Groups { conditions, state, part } => {
            let query = query(&conditions, state, screen);
            let reply = client.list(&["failure-groups"], &query, &part).await?;
            screen.list(
                &reply,
                columns::GROUPS,
                "no failures: everything was delivered, or is still being tried",
            )?;
            if !reply.items().is_empty() {
                screen.suggest("crossdock failures show GROUP, crossdock replay test --group GROUP");
            }
        }
        FailuresCommand::List { group, event, conditions, state, part } => {
            let mut query = query(&conditions, state, screen);
            query.extend(group.into_iter().map(|id| ("group", id)));
            query.extend(event.into_iter().map(|id| ("event", id)));
            let reply = client.list(&["dead-letters"], &query, &part).await?;
            screen.list(
                &reply,
                columns::LETTERS,
                "no dead letters; `crossdock event list` shows what came in",
            )?;
        }
        FailuresCommand::Show { id } => {
            let reply = show(client, &id).await?;
            screen.one(&reply)?;
        }
        FailuresCommand::Discard { selected, act } => {
            let selection = selected.selection((screen.now)());
            let plan = client.plan(&selection, None).await?;
            if act.dry_run {
                confirm::preview(&plan, screen)?;
                return Ok(Code::Ok);
            }
            confirm::something(&plan, &selection, client).await?;
            confirm::ask(&plan, "given up", "Give them up?", act.yes, screen)?;
            let reply = client.discard(&selection, &act.reason.unwrap_or_default()).await?;
            screen.one(&reply)?;
        }
    }
    Ok(Code::Ok)
}

/// A dead letter, or else a failure group, by id.
async fn show(client: &Client, id: &str) -> Result<Reply, Failure> {
    let letter = client.get(&["dead-letters", id], &[]).await;
    match letter {
        Err(missing) if missing.code == Code::NotFound => {
            let group = client.get(&["failure-groups", id], &[]).await;
            group.map_err(|other| if other.code == Code::NotFound { nothing(id) } else { other })
        }
        other => other,
    }
}

fn nothing(id: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("`{id}` is no dead letter, no event that became one and no failure group"),
    )
    .next("crossdock failures list, crossdock failures groups")
}

fn query(conditions: &Conditions, state: Option<State>, screen: &Screen) -> Vec<(&'static str, String)> {
    let mut query = conditions.query((screen.now)());
    let state = state.and_then(|state| state.to_possible_value());
    query.extend(state.map(|state| ("state", state.get_name().to_owned())));
    query
}
