//! The Standard Webhooks connector believes what the published package believes.

mod common;
#[path = "../../../tests/oracles/oracle.rs"]
mod oracle;

use common::{request, webhook};
use crossdock_sdk::{Inbox, Refusal};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW_SECRET: &str = "whsec_Q2FuYXJ5T25lQ2FuYXJ5T25lQ2FuYXJ5T25l";

struct Signed {
    id: &'static str,
    at: i64,
    body: &'static str,
    signature: String,
}

impl Signed {
    fn headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("webhook-id", self.id.to_owned()),
            ("webhook-timestamp", self.at.to_string()),
            ("webhook-signature", self.signature.clone()),
        ]
    }

    fn come(&self, secrets: &[(&str, &str)], now: Timestamp) -> Inbox {
        let headers = self.headers();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        webhook("standard-webhooks", secrets, &[]).handle(&request(&headers, self.body), now)
    }

    fn believed(&self, now: Timestamp) -> bool {
        !matches!(self.come(&[("secret", SECRET)], now), Inbox::Refuse(Refusal::Unauthorized(_)))
    }
}

/// One request for each secret and time, signed by the package, which is started once for all of them.
fn signed(requests: &[(&str, i64)], body: &'static str) -> Vec<Signed> {
    let one = |(secret, at): &(&str, i64)| json!({ "secret": secret, "id": "msg_1", "at": at, "body": body });
    let sign: Vec<_> = requests.iter().map(one).collect();
    let answer = oracle::ask("standard-webhooks.mjs", &json!({ "sign": sign, "verify": [] }));
    let signatures = answer["signatures"].as_array().expect("signatures");
    assert_eq!(signatures.len(), requests.len());
    let signatures = signatures.iter().map(|signature| signature.as_str().expect("a signature").to_owned());
    let requests = requests.iter().zip(signatures);
    requests.map(|((_, at), signature)| Signed { id: "msg_1", at: *at, body, signature }).collect()
}

#[test]
fn verdicts_agree_also_on_faults_and_on_old_and_early_timestamps() {
    let now = Timestamp::now();
    let body = r#"{"type":"a","n":"ü€"}"#;
    // A minute of distance from the limit, since the package looks at its own clock, and later than we do.
    let offsets = [0, -240, 240, -360, 360, -86_400];
    let mut requests: Vec<_> = offsets.iter().map(|offset| (SECRET, now.as_second() + offset)).collect();
    requests.push((NEW_SECRET, now.as_second()));
    let mut cases = signed(&requests, body);
    let wrong = cases.pop().expect("the last one").signature;
    let right = cases[0].signature.clone();
    let good = || Signed { id: "msg_1", at: now.as_second(), body, signature: right.clone() };
    for signature in [
        wrong.clone(),
        format!("{wrong} {right}"),
        format!("{right} {wrong}"),
        right.replace("v1,", "v2,"),
        right.replace("v1,", ""),
        format!("v1a,xyz {right}"),
        right.trim_end_matches('=').to_owned(),
        String::new(),
        "v1,".to_owned(),
    ] {
        cases.push(Signed { signature, ..good() });
    }
    cases.push(Signed { body: "{}", ..good() });
    cases.push(Signed { id: "msg_2", ..good() });
    cases.push(Signed { at: now.as_second() - 1, ..good() });
    let verify: Vec<_> = cases
        .iter()
        .map(|case| {
            let headers: Value = case
                .headers()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect::<serde_json::Map<_, _>>()
                .into();
            json!({ "secret": SECRET, "headers": headers, "body": case.body })
        })
        .collect();
    let answer = oracle::ask("standard-webhooks.mjs", &json!({ "sign": [], "verify": verify }));
    for (n, case) in cases.iter().enumerate() {
        assert_eq!(Value::from(case.believed(now)), answer["verdicts"][n], "case {n}: {}", case.signature);
    }
    assert!(cases[0].believed(now) && !cases[3].believed(now), "some are right and some are wrong");
}

#[test]
fn the_secret_before_the_change_is_believed_beside_the_new_one() {
    let now = Timestamp::now();
    let old = &signed(&[(SECRET, now.as_second())], "{}")[0];
    let both = [("secret", NEW_SECRET), ("previous_secret", SECRET)];
    assert!(matches!(old.come(&both, now), Inbox::Accept(events) if events[0].id == "msg_1"));
    assert!(matches!(old.come(&both[..1], now), Inbox::Refuse(Refusal::Unauthorized(_))));
}

#[test]
fn a_request_is_refused_a_second_after_its_time() {
    let then = Timestamp::from_second(1_700_000_000).expect("a time");
    let case = &signed(&[(SECRET, then.as_second())], "{}")[0];
    assert!(case.believed(then + SignedDuration::from_secs(300)));
    assert!(!case.believed(then + SignedDuration::from_secs(301)));
    assert!(!case.believed(then - SignedDuration::from_secs(301)));
}
