//! No secret and no payload in logs, answers, dead letters or the store: canaries are planted and looked for.

use crossdock_sim::{
    Answer, Entry, LedgerOptions, Rule, Sink, SinkOptions,
    github::{Delivery, deliver},
};
use crossdock_tests::{Hub, Setup};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::common::{event, publish};

const SIGNING: &str = "whsec_Q2FuYXJ5T25lQ2FuYXJ5T25lQ2FuYXJ5T25l";
const BEARER: &str = "canary-two-bearer-token-8d1f";
const HEADER: &str = "canary-three-header-value-77aa";
const PAYLOAD: &str = "canary-four-in-the-payload-31c9";
/// The address of an incoming webhook, as chat systems give them out: whoever knows it may post.
const HOOK_PATH: &str = "canary-five-hook-path";
const HOOK_QUERY: &str = "canary-six-hook-query";
const API_KEY: &str = "canary-seven-api-key";
const PASSWORD: &str = "canary-eight-password";
/// `hub:` and the password, as Basic sends them.
const BASIC_PAIR: &str = "aHViOmNhbmFyeS1laWdodC1wYXNzd29yZA==";
const INBOUND: &str = "canary-nine-inbound-secret";

/// Four connections with every kind of credential, and one flow to each.
fn config(sink: &Sink) -> String {
    format!(
        "data: ./data
listen: 127.0.0.1:0
topics: [orders]
connections:
  github: {{ connector: github, config: {{ secret: \"${{env.INBOUND}}\" }} }}
  tracker:
    connector: http
    config:
      base_url: {url}
      signing_secret: \"${{env.SIGNING}}\"
      auth: bearer
      token: \"${{env.BEARER}}\"
      secret_headers: {{ x-api-secret: \"${{env.HEADER}}\" }}
  hook: {{ connector: http, config: {{ base_url: \"${{env.HOOK_URL}}\" }} }}
  keyed: {{ connector: http, config: {{ base_url: {url}, api_key: \"${{env.API_KEY}}\", api_key_query: key }} }}
  basic: {{ connector: http, config: {{ base_url: {url}, username: hub, password: \"${{env.PASSWORD}}\" }} }}
flows:
  to-tracker: {{ from: {{ topic: orders }}, to: {{ connection: tracker, action: post, path: /orders }} }}
  to-hook: {{ from: {{ topic: orders }}, to: {{ connection: hook, action: post, path: \"/room/${{.key}}\" }} }}
  to-keyed: {{ from: {{ topic: orders }}, to: {{ connection: keyed, action: post, path: /keyed }} }}
  to-basic: {{ from: {{ topic: orders }}, to: {{ connection: basic, action: post, path: /basic }} }}
  from-github: {{ from: {{ connection: github }}, to: {{ connection: tracker, action: post, path: /github }} }}
",
        url = sink.url()
    )
}

/// Everything that `GET /v1/moments` says until the hub ends.
fn moments(hub: &Hub) -> JoinHandle<Vec<u8>> {
    let url = format!("{}/v1/moments", hub.url);
    tokio::spawn(async move {
        let mut answer = reqwest::get(url).await.expect("the hub answers");
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            said.extend_from_slice(&chunk);
        }
        said
    })
}

fn header<'e>(entry: &'e Entry, name: &str) -> &'e str {
    entry.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value.as_str())
}

#[tokio::test]
async fn planted_secrets_are_found_nowhere() {
    let ledger = LedgerOptions { every_header: true, ..LedgerOptions::default() };
    let sink = Sink::start(SinkOptions { ledger, ..SinkOptions::default() }).await.expect("a sink starts");
    let hook = format!("{}/services/{HOOK_PATH}?sig={HOOK_QUERY}", sink.url());
    let mut setup = Setup::new(&config(&sink)).expect("a folder");
    for (name, value) in [
        ("SIGNING", SIGNING),
        ("BEARER", BEARER),
        ("HEADER", HEADER),
        ("HOOK_URL", &hook),
        ("API_KEY", API_KEY),
        ("PASSWORD", PASSWORD),
        ("INBOUND", INBOUND),
    ] {
        setup = setup.variable(name, value);
    }
    let mut hub = setup.start_with(&[("CROSSDOCK_LOG", "trace")]).await.expect("the hub starts");
    let moments = moments(&hub);
    // Each other side echoes what it was sent, as error pages of real systems do.
    for (path, echo) in [
        ("/services/*", format!("no: POST /services/{HOOK_PATH}/room/k?sig={HOOK_QUERY}")),
        ("/keyed", format!("no: POST /keyed?key={API_KEY}")),
        ("/basic", format!("no: hub:{PASSWORD}, {BASIC_PAIR}")),
        ("/*", format!("no: authorization: Bearer {BEARER}; x-api-secret: {HEADER}")),
    ] {
        sink.script().push(Rule::path(path), Answer::status(400).body(echo));
    }
    let from_github = Delivery { event: "ping".to_owned(), id: "1".to_owned(), payload: "{}".into() };
    for (secret, status) in [("wrong", 401), (INBOUND, 202)] {
        let posted = deliver(&format!("{}/in/github", hub.url), secret, &from_github).await;
        assert_eq!(posted.expect("the hub answers").status, status);
    }
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1, "note": PAYLOAD }))]).await;
    hub.wait_until("/v1/status", |status| status["dead"] == 5).await.expect("all are dead");
    let mut api = hub.get("/v1/connections").await.expect("connections").to_string();
    let letters = hub.get("/v1/dead-letters").await.expect("letters");
    for letter in letters["items"].as_array().expect("items") {
        let id = letter["id"].as_str().expect("an id");
        api += &hub.get(&format!("/v1/dead-letters/{id}")).await.expect("a letter").to_string();
        let shown = setup.command(&["failures", "show", id, "--url", &hub.url]).await.expect("it is shown");
        api += &String::from_utf8_lossy(&shown.stdout);
    }
    hub.terminate().await.expect("it is told");
    hub.wait_end().await.expect("it ends");

    let sent = sink.ledger().entries();
    let to = |path: &str| sent.iter().find(|entry| entry.path.starts_with(path)).expect("it was called");
    assert_eq!(header(to("/orders"), "authorization"), format!("Bearer {BEARER}"));
    assert_eq!(header(to("/orders"), "x-api-secret"), HEADER);
    assert_eq!(header(to("/basic"), "authorization"), format!("Basic {BASIC_PAIR}"));
    assert_eq!(to("/services").path, format!("/services/{HOOK_PATH}/room/k?sig={HOOK_QUERY}"));
    assert_eq!(to("/keyed").path, format!("/keyed?key={API_KEY}"));

    let logs = hub.log_lines().join("\n");
    assert!(logs.contains("delivery attempted"), "the log is on");
    assert!(
        api.contains(&format!("POST {}/…/room/k", sink.url())),
        "what was called is shown, but for the secret"
    );
    assert!(api.contains(PAYLOAD), "the payload is kept with the dead letter");
    assert!(!logs.contains(PAYLOAD), "and is in no log");
    let moments = moments.await.expect("it ends with the hub");
    assert!(String::from_utf8_lossy(&moments).contains("to-hook"), "moments were told");
    let mut places = vec![("logs", logs.into_bytes()), ("API", api.into_bytes()), ("moments", moments)];
    for file in std::fs::read_dir(setup.folder().join("data")).expect("the folder") {
        places.push(("store", std::fs::read(file.expect("a file").path()).expect("a file is read")));
    }
    let secrets = [
        SIGNING,
        &SIGNING[6..],
        BEARER,
        HEADER,
        HOOK_PATH,
        HOOK_QUERY,
        API_KEY,
        PASSWORD,
        BASIC_PAIR,
        INBOUND,
    ];
    for (place, bytes) in places {
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in the {place}");
        }
    }
}
