//! What a worker serves that has some of the roles, and what one answers that is still starting.

use crossdock_api::{ApiOptions, Doors, Serves, starting};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::harness::{Bench, Reply};

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;

async fn bench(intake: bool, resources: bool) -> Bench {
    Bench::with(ApiOptions { serves: Serves { intake, resources }, ..ApiOptions::default() }).await
}

#[tokio::test]
async fn a_worker_without_the_role_api_takes_events_and_answers_probes() {
    let bench = bench(true, false).await;
    assert_eq!(bench.publish("application/cloudevents+json", EVENT).await.status, 202);
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(bench.get(path).await.status, 200, "{path}");
    }
    for path in ["/v1/status", "/v1/events", "/"] {
        let problem = bench.get(path).await.problem(404, "not-found");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("without the role `api`"), "{detail}");
    }
}

#[tokio::test]
async fn a_worker_without_the_role_ingest_takes_no_events() {
    let bench = bench(false, true).await;
    assert_eq!(bench.get("/v1/status").await.status, 200);
    let refused = bench.publish("application/cloudevents+json", EVENT).await;
    let detail = refused.problem(404, "not-found")["detail"].to_string();
    assert!(detail.contains("without the role `ingest`"), "{detail}");
    bench.post("/in/shop", &json!({})).await.problem(404, "not-found");
    assert!(bench.taken().await.is_empty());
}

#[tokio::test]
async fn a_hub_that_starts_is_alive_and_not_ready_until_it_is_there() {
    let bench = Bench::start().await;
    let (waits, waits_for) = watch::channel("waiting for the store: it refuses connections".to_owned());
    let options = ApiOptions::default();
    let doors = Doors::from(starting(options.clone(), waits_for));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    tokio::spawn(crossdock_api::serve(listener, doors.clone(), options.clone(), shutdown.clone()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        Reply::of(client.get(format!("{url}{path}")).bearer_auth("x").send().await.unwrap()).await
    };
    let live = get("/health/live").await;
    assert_eq!((live.status, live.header("connection")), (200, "close"));
    let refused = get("/v1/status").await;
    assert_eq!(refused.header("retry-after"), "1");
    let detail = refused.problem(503, "starting")["detail"].to_string();
    assert!(detail.contains("waiting for the store: it refuses connections"), "{detail}");
    waits.send_replace("waiting for the broker".to_owned());
    let ready = get("/health/ready").await.problem(503, "starting")["detail"].to_string();
    assert!(ready.contains("waiting for the broker"), "{ready}");
    doors.open(crossdock_api::router(
        bench.hub.clone(),
        std::sync::Arc::new(crossdock_codec::CloudEvents),
        options,
    ));
    assert_eq!(get("/health/ready").await.status, 200);
    shutdown.cancel();
}
