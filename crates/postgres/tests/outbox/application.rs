//! What an application does: a plain INSERT, a function, from any language, with any bytes (O16).

use crossdock_core::{Act, OutboxLog, RefusedEvent};
use crossdock_postgres::{OutboxMessage, publish};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::{
    database::Database,
    reading::{claim, data, nothing_comes, take},
};

fn act() -> Act {
    Act { actor: "ada".to_owned(), reason: "the topic is there now".to_owned() }
}

#[tokio::test]
async fn an_application_needs_two_rights() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let role = format!("crossdock_test_application_{}", std::process::id());
    let grant = format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA crossdock TO {role}; GRANT INSERT ON crossdock.outbox TO {role}"
    );
    database.connect().await.execute(AssertSqlSafe(grant)).await.unwrap();
    let url = database.url();
    let (_, place) = url.split_once('@').unwrap();
    let mut application = PgConnection::connect(&format!("postgres://{role}@{place}")).await.unwrap();
    let mut transaction = application.begin().await.unwrap();
    let insert = r#"INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
        VALUES ('orders', '17', 'order.paid', '{"by": "insert"}')"#;
    transaction.execute(insert).await.unwrap();
    let message = OutboxMessage {
        topic: "orders",
        key: Some("17"),
        kind: "order.paid",
        payload: br#"{"by": "rust"}"#,
        source: Some("/shop"),
        subject: Some("17"),
        headers: &[("tenant", "a \"b\"")],
        ..OutboxMessage::default()
    };
    let id = publish(&mut *transaction, &message).await.unwrap();
    transaction.commit().await.unwrap();
    let reader = claim(&postgres).await;
    let came = take(&*reader, 2).await;
    assert_eq!(data(&came), [r#"{"by": "insert"}"#, r#"{"by": "rust"}"#]);
    let event = &came[0].event;
    assert_eq!((event.kind.as_str(), event.key.as_deref()), ("order.paid", Some("17")));
    assert_eq!(
        Some(event.source.as_str()),
        url.rsplit_once('/').map(|(_, name)| format!("/outbox/{name}")).as_deref()
    );
    let event = &came[1].event;
    assert_eq!((event.id.as_str(), event.source.as_str()), (id.to_string().as_str(), "/shop"));
    assert_eq!(event.extensions, [("tenant".to_owned(), "a \"b\"".to_owned())]);
    application.close().await.unwrap();
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    database.connect().await.execute(AssertSqlSafe(drop)).await.unwrap();
}

#[tokio::test]
async fn the_function_takes_json_text_and_bytes() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let mut connection = database.connect().await;
    for call in [
        r#"SELECT crossdock.publish('orders', '17', 'order.paid', '{"a": "line\nbreak"}')"#,
        r#"SELECT crossdock.publish('orders', '17', 'order.paid', '{"a":1}'::jsonb, source => '/shop')"#,
        r#"SELECT crossdock.publish(topic => 'orders', key => NULL, type => 'x', payload => '\x00ff'::bytea,
            content_type => 'application/octet-stream', headers => '{"n": 1}')"#,
    ] {
        connection.execute(call).await.unwrap();
    }
    let came = take(&*claim(&postgres).await, 3).await;
    assert_eq!(came[0].event.data, r#"{"a": "line\nbreak"}"#);
    assert_eq!((came[1].event.data.as_ref(), came[1].event.source.as_str()), (&br#"{"a": 1}"#[..], "/shop"));
    assert_eq!((came[2].event.data.as_ref(), came[2].event.key.as_deref()), (&b"\0\xff"[..], None));
    assert_eq!(came[2].event.content_type.as_deref(), Some("application/octet-stream"));
}

#[tokio::test]
async fn any_bytes_pass_and_a_row_that_is_no_event_holds_nothing_up() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let mut connection = database.connect().await;
    let payloads: [&[u8]; 4] = [b"\0", br#"{"a": "\u0000 \ud800"}"#, b"\xff\xfe", b""];
    for payload in payloads {
        let message = OutboxMessage { topic: "orders", kind: "t", payload, ..OutboxMessage::default() };
        publish(&mut connection, &message).await.unwrap();
    }
    for (topic, kind) in [("no topic", "t"), ("orders", "")] {
        let message = OutboxMessage { topic, kind, ..OutboxMessage::default() };
        publish(&mut connection, &message).await.unwrap();
    }
    connection
        .execute("INSERT INTO crossdock.outbox (aggregatetype, type) VALUES ('orders', 't')")
        .await
        .unwrap();
    let reader = claim(&postgres).await;
    let page = reader.read().await.unwrap();
    let came: Vec<_> = page.events.iter().map(|read| read.event.data.as_ref()).collect();
    assert_eq!(came, [payloads[0], payloads[1], payloads[2], payloads[3], b""]);
    assert_eq!(page.malformed.iter().map(|refused| refused.seq).collect::<Vec<_>>(), [5, 6]);
    reader.advance(page.mark, page.malformed).await.unwrap();
    let refused = postgres.outbox_refused(0, 10).await.unwrap();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].reason.contains("`aggregatetype` names no topic"), "{refused:?}");
    assert_eq!(refused[0].topic.as_deref(), Some("no topic"));
}

#[tokio::test]
async fn refused_rows_are_sent_once_more_or_given_up_by_a_person() {
    let database = Database::create().await;
    let postgres = database.open(database.options()).await;
    let mut connection = database.connect().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let payload = n.to_string();
        let message = OutboxMessage {
            topic: "orders",
            kind: "t",
            payload: payload.as_bytes(),
            ..OutboxMessage::default()
        };
        ids.push(publish(&mut connection, &message).await.unwrap().to_string());
    }
    let reader = claim(&postgres).await;
    let page = reader.read().await.unwrap();
    let refuse = |seq| RefusedEvent { seq, reason: "there is no such topic".to_owned() };
    reader.advance(page.mark, vec![refuse(1), refuse(2)]).await.unwrap();
    assert_eq!(postgres.outbox_retry(&[1, 3, 99], &act()).await.unwrap(), [1]);
    assert_eq!(postgres.outbox_retry(&[1], &act()).await.unwrap(), [0_i64; 0], "once");
    assert_eq!(postgres.outbox_discard(&[1, 2], &act()).await.unwrap(), [2]);
    let came = take(&*reader, 1).await;
    assert_eq!((came[0].event.id.as_str(), data(&came)), (ids[0].as_str(), vec!["0"]));
    assert_eq!(postgres.status().await.unwrap().refused, 0);
    // What a reconciler misses in the broker.
    let (rows, end) = postgres.outbox_rows((2, 3), 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), &ids[1..]);
    assert_eq!(
        (end, rows[0].topic.as_str(), postgres.outbox_reach().await.unwrap().0),
        (Some(3), "orders", 4)
    );
    assert_eq!(postgres.outbox_resend(&[3, 99], &act()).await.unwrap(), [3]);
    let came = take(&*reader, 1).await;
    assert_eq!(came[0].event.id, ids[2]);
    nothing_comes(&*reader, 2).await;
    let audit =
        "SELECT act || ' ' || count || ' ' || convert_from(actor, 'UTF8') FROM crossdock.audit ORDER BY id";
    let audit: Vec<String> =
        connection.fetch_all(audit).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(audit, ["outbox.retry 1 ada", "outbox.discard 1 ada", "outbox.resend 1 ada"]);
}
