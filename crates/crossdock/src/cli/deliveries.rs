//! What became of an event, in words.

use serde_json::Value;

use super::{columns::DELIVERIES, screen::Screen, table};

/// Where an event stands in each flow that reads its topic.
pub fn render(deliveries: &[Value], screen: &Screen) -> String {
    if deliveries.is_empty() {
        return "no flow reads the topic".to_owned();
    }
    table::render(&deliveries.iter().map(explained).collect::<Vec<_>>(), DELIVERIES, screen)
}

/// The delivery with `why`, which says why it stands where it stands.
fn explained(delivery: &Value) -> Value {
    let mut explained = delivery.clone();
    if let (Some(fields), Some(why)) = (explained.as_object_mut(), why(delivery)) {
        fields.insert("why".to_owned(), why.into());
    }
    explained
}

fn why(delivery: &Value) -> Option<String> {
    match delivery["state"].as_str()? {
        "filtered" => Some("the flow's filter, as it is now, leaves it out".to_owned()),
        "held" if delivery["due_at"].is_null() => {
            Some("waits behind the earlier events of its key".to_owned())
        }
        _ => tries(delivery),
    }
}

/// For example `2 tries, last: transient 503: the service is away`.
fn tries(delivery: &Value) -> Option<String> {
    let tries = match delivery["attempts"].as_u64()? {
        1 => "1 try".to_owned(),
        several => format!("{several} tries"),
    };
    let Some(last) = delivery["last"].as_object() else { return Some(tries) };
    let field = |name| last.get(name).filter(|value: &&Value| !value.is_null());
    let kind: Vec<_> = ["class", "status", "code"]
        .into_iter()
        .filter_map(field)
        .map(|value| table::text(Some(value)))
        .collect();
    let message = field("message").and_then(Value::as_str).unwrap_or_default();
    let parts = [kind.join(" "), message.to_owned()];
    let last: Vec<_> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    Some(format!("{tries}, last: {}", last.join(": ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_state_says_why() {
        let last = json!({ "at": "2026-11-24T12:00:00Z", "class": "transient", "status": 503, "code": null, "message": "away" });
        for (delivery, expected) in [
            (json!({ "state": "done", "attempts": null, "last": null }), None),
            (json!({ "state": "filtered" }), Some("the flow's filter, as it is now, leaves it out")),
            (
                json!({ "state": "held", "attempts": 0, "last": null, "due_at": null }),
                Some("waits behind the earlier events of its key"),
            ),
            (
                json!({ "state": "held", "attempts": 0, "last": null, "due_at": "2026-11-24T12:00:00Z" }),
                Some("0 tries"),
            ),
            (
                json!({ "state": "held", "attempts": 2, "last": last, "due_at": "2026-11-24T12:00:00Z" }),
                Some("2 tries, last: transient 503: away"),
            ),
            (
                json!({ "state": "dead", "attempts": 1, "last": last }),
                Some("1 try, last: transient 503: away"),
            ),
        ] {
            assert_eq!(why(&delivery).as_deref(), expected, "{delivery}");
        }
    }
}
