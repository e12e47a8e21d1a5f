//! Before something happens to many dead letters, a person sees how many and says yes.

use crossdock_core::{GroupId, Selection};
use serde_json::Value;

use super::{
    age,
    args::Output,
    client::{Client, Reply},
    failure::{Code, Failure},
    screen::Screen,
    table::text,
};

/// How many groups a question names.
const GROUPS_SHOWN: usize = 10;

/// Shows what would happen.
pub fn preview(plan: &Reply, screen: &mut Screen) -> Result<(), Failure> {
    match screen.output {
        Output::Json => screen.json(&plan.text)?,
        Output::Table => {
            for line in describe(&plan.value) {
                screen.line(&line)?;
            }
        }
    }
    Ok(())
}

/// Fails if the plan has nothing, and says why.
pub async fn something(plan: &Reply, selection: &Selection, client: &Client) -> Result<(), Failure> {
    if count(&plan.value) > 0 {
        return Ok(());
    }
    match selection.groups.as_slice() {
        [group] if selection.ids.is_empty() && selection.events.is_empty() => {
            Err(none_open(group, client).await?)
        }
        _ => Err(nothing_meant()),
    }
}

/// Why a group has nothing to send again.
pub async fn none_open(group: &GroupId, client: &Client) -> Result<Failure, Failure> {
    let found = match client.get(&["failure-groups", group.as_str()], &[]).await {
        Ok(found) => found.value,
        Err(missing) if missing.code == Code::NotFound => {
            let failure = Failure::new(Code::NotFound, format!("there is no group {group}"));
            return Ok(failure.next("crossdock failures groups"));
        }
        Err(other) => return Err(other),
    };
    let left = found.get("count").and_then(Value::as_u64).map(age::count).unwrap_or_default();
    Ok(match text(found.get("state")).as_str() {
        "open" => nothing_meant(),
        state => {
            let message = format!("the group {group} has no open dead letter ({left} {state})");
            Failure::new(Code::NotFound, message).next(format!("crossdock failures show {group}"))
        }
    })
}

fn nothing_meant() -> Failure {
    Failure::new(Code::NotFound, "no open dead letter is meant by that").next("crossdock failures groups")
}

/// Asks, unless there is nobody to ask (a failure) or the answer is known.
pub fn ask(plan: &Reply, done: &str, question: &str, yes: bool, screen: &mut Screen) -> Result<(), Failure> {
    let count = count(&plan.value);
    if yes {
        return Ok(());
    }
    if !screen.can_ask {
        let message = format!("{} would be {done}, and nobody is here to say yes", letters(count));
        return Err(Failure::new(Code::NeedsConfirmation, message).next("add --yes if that is meant"));
    }
    let shown = format!("{}\n{question} [y/N] ", describe(&plan.value).join("\n"));
    match screen.ask(&shown)?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Code::NeedsConfirmation, "nothing was done")),
    }
}

fn letters(count: u64) -> String {
    format!("{} open {}", age::count(count), if count == 1 { "dead letter" } else { "dead letters" })
}

/// How many dead letters a plan has.
fn count(plan: &Value) -> u64 {
    plan.get("count").and_then(Value::as_u64).unwrap_or_default()
}

fn describe(plan: &Value) -> Vec<String> {
    let groups = plan.get("groups").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut first = letters(count(plan));
    if !groups.is_empty() {
        first.push_str(&format!(
            " in {} {}",
            groups.len(),
            if groups.len() == 1 { "group" } else { "groups" }
        ));
    }
    if let Some(seconds) =
        plan.get("estimate_seconds").and_then(Value::as_f64).filter(|seconds| *seconds >= 1.0)
    {
        first.push_str(&format!(", about {}", age::short(seconds.ceil() as u64)));
    }
    let mut lines = vec![first];
    lines.extend(groups.iter().take(GROUPS_SHOWN).map(group));
    if groups.len() > GROUPS_SHOWN {
        lines.push(format!("  and {} groups more", groups.len() - GROUPS_SHOWN));
    }
    lines
}

fn group(group: &Value) -> String {
    let field = |name| text(group.get(name));
    let number = group.get("count").and_then(Value::as_u64).map(age::count).unwrap_or_default();
    let why = [field("class"), field("status"), field("code")];
    let why: Vec<_> = why.iter().filter(|text| *text != "-").map(String::as_str).collect();
    format!("  {number:>9}  {}  {} > {}  {}", field("id"), field("flow"), field("connection"), why.join(" "))
}
