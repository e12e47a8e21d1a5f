//! No secret and no payload in logs, answers, dead letters or the store: canaries are planted and looked for.

use crossdock_sim::{Answer, LedgerOptions, Rule, Sink, SinkOptions};
use crossdock_tests::Setup;
use serde_json::json;

use crate::common::{event, publish};

const SIGNING: &str = "whsec_Q2FuYXJ5T25lQ2FuYXJ5T25lQ2FuYXJ5T25l";
const BEARER: &str = "canary-two-bearer-token-8d1f";
const HEADER: &str = "canary-three-header-value-77aa";
const PAYLOAD: &str = "canary-four-in-the-payload-31c9";

#[tokio::test]
async fn planted_secrets_are_found_nowhere() {
    let ledger = LedgerOptions { every_header: true, ..LedgerOptions::default() };
    let sink = Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts");
    let config = format!(
        "data: ./data
listen: 127.0.0.1:0
topics: [orders]
connections:
  tracker:
    connector: http
    config:
      base_url: {url}
      signing_secret: \"${{env.SIGNING}}\"
      auth: bearer
      token: \"${{env.BEARER}}\"
      secret_headers: {{ x-api-secret: \"${{env.HEADER}}\" }}
flows:
  orders-to-tracker:
    from: {{ topic: orders }}
    to: {{ connection: tracker, action: post, path: /orders }}
",
        url = sink.url()
    );
    let setup = Setup::new(&config).expect("a folder");
    let setup = setup.variable("SIGNING", SIGNING).variable("BEARER", BEARER).variable("HEADER", HEADER);
    let mut hub = setup.start_with(&[("CROSSDOCK_LOG", "trace")]).await.expect("the hub starts");
    // The other side echoes what it was sent, as error pages of real systems do.
    let echo = format!("no: authorization: Bearer {BEARER}; x-api-secret: {HEADER}");
    sink.script().push(Rule::any(), Answer::status(400).body(echo));
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1, "note": PAYLOAD }))]).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 1).await.expect("it is dead");
    let letters = hub.get("/v1/dead-letters").await.expect("letters");
    let id = letters["items"][0]["id"].as_str().expect("an id").to_owned();
    let letter = hub.get(&format!("/v1/dead-letters/{id}")).await.expect("a letter");
    let shown = setup.command(&["failures", "show", &id, "--url", &hub.url]).await.expect("it is shown");
    hub.terminate().await.expect("it is told");
    hub.wait_end().await.expect("it ends");

    let sent = &sink.ledger().entries()[0];
    let headers = format!("{:?}", sent.headers);
    assert!(headers.contains(BEARER) && headers.contains(HEADER), "the secrets were really used: {headers}");
    let logs = hub.log_lines().join("\n");
    assert!(logs.contains("delivery attempted"), "the log is on");
    let api = letter.to_string() + &String::from_utf8_lossy(&shown.stdout);
    assert!(api.contains(PAYLOAD), "the payload is kept with the dead letter");
    assert!(!logs.contains(PAYLOAD), "and is in no log");
    let mut places = vec![("logs", logs.into_bytes()), ("API", api.into_bytes())];
    for file in std::fs::read_dir(setup.folder().join("data")).expect("the folder") {
        places.push(("store", std::fs::read(file.expect("a file").path()).expect("a file is read")));
    }
    for (place, bytes) in places {
        for secret in [SIGNING, &SIGNING[6..], BEARER, HEADER] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in the {place}");
        }
    }
}
