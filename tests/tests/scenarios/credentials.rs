//! A credential that is refused stops the connection, and costs no event.

use crossdock_sim::{Answer, Rule};
use crossdock_tests::Setup;
use serde_json::json;

use crate::common::{PATIENCE, config, event, publish, sink};

#[tokio::test]
async fn a_refused_credential_dead_letters_nothing_also_with_one_event_under_way() {
    let sink = sink().await;
    let setup = Setup::new(&config(&sink, "")).expect("a folder");
    let hub = setup.start().await.expect("the hub starts");
    sink.script().push(Rule::any().times(5), Answer::status(401));
    publish(&hub, "orders", &[event("1", "k", &json!({ "key": "k", "seq": 1 }))]).await;
    hub.wait_until("/v1/connections/tracker", |connection| connection["state"] == "needs_auth")
        .await
        .expect("the connection needs a person");
    let status = hub.get("/v1/status").await.expect("the status");
    assert_eq!((&status["dead"], &status["state"]), (&json!(0), &json!("degraded")), "{status}");

    let resumed =
        setup.command(&["--url", &hub.url, "connection", "resume", "tracker"]).await.expect("it ends");
    assert!(resumed.status.success(), "{resumed:?}");
    sink.ledger().wait_for_accepted(1, PATIENCE).await.expect("the event was waiting, and arrives");
    hub.wait_until("/v1/status", |status| {
        status["pending"] == 0 && status["held"] == 0 && status["dead"] == 0
    })
    .await
    .expect("nothing is left, and nothing died");
}
