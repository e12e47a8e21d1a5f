//! The servers are there, and those that a test may kill keep what they promise about it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use crossdock_testkit::services::{
    self,
    private::{Kafka, Postgres, RabbitMq, free_port},
};

#[tokio::test]
async fn the_shared_servers_are_named_by_url() {
    assert!(services::postgres().starts_with("postgres://"));
    assert!(services::kafka().starts_with("kafka://"));
    assert!(services::amqp().starts_with("amqp://"));
    assert!(services::rabbitmqctl(&["list_vhosts"]).await.contains("name"));
}

#[tokio::test]
async fn a_private_postgres_keeps_its_port_and_its_rows_over_a_kill() {
    let mut postgres = Postgres::options().setting("max_connections=17").start().await;
    let (url, folder) = (postgres.url(), postgres.folder().to_owned());
    postgres.psql("create table kept (it text); insert into kept values ('a row')").await;

    postgres.kill();
    assert!(refuses(postgres.port()));
    postgres.restart().await;

    assert_eq!(postgres.url(), url);
    assert_eq!(postgres.psql("select it from kept").await.trim(), "a row");
    assert_eq!(postgres.psql("show max_connections").await.trim(), "17");
    assert_eq!(postgres.psql("show wal_level").await.trim(), "logical");
    postgres.stop().await;
    assert!(refuses(postgres.port()));
    leaves_nothing(postgres, &folder);
}

#[tokio::test]
async fn a_private_postgres_asks_for_passwords_where_it_is_told_to() {
    let postgres = Postgres::options().access("host all guarded 127.0.0.1/32 scram-sha-256").start().await;
    postgres.psql("create role guarded login password 'open sesame'").await;
    let rules = "select auth_method from pg_hba_file_rules order by line_number limit 1";
    assert_eq!(postgres.psql(rules).await.trim(), "scram-sha-256");
}

#[tokio::test]
async fn a_private_kafka_keeps_its_port_and_its_topics_over_a_kill() {
    let second = free_port();
    let mut kafka = Kafka::options().listener("SECOND", "PLAINTEXT", second).partitions(3).start().await;
    let (url, folder) = (kafka.url(), kafka.folder().to_owned());
    create_topic(kafka.port(), "kept");

    kafka.kill();
    assert!(refuses(kafka.port()));
    kafka.restart().await;

    assert_eq!(kafka.url(), url);
    assert_eq!(partitions(kafka.port(), "kept"), 3);
    assert_eq!(partitions(second, "kept"), 3);
    kafka.stop().await;
    assert!(refuses(kafka.port()));
    leaves_nothing(kafka, &folder);
}

#[tokio::test]
async fn a_private_rabbitmq_keeps_its_port_and_its_virtual_hosts_over_a_kill() {
    let mut rabbitmq = RabbitMq::options().line("heartbeat = 7").start().await;
    let (url, folder) = (rabbitmq.url(), rabbitmq.folder().to_owned());
    rabbitmq.ctl(&["add_vhost", "kept"]).await;

    rabbitmq.kill();
    assert!(refuses(rabbitmq.port()));
    rabbitmq.restart().await;

    assert_eq!(rabbitmq.url(), url);
    assert!(rabbitmq.ctl(&["list_vhosts"]).await.contains("kept"));
    assert!(rabbitmq.ctl(&["environment"]).await.contains("{heartbeat,7}"));
    rabbitmq.stop().await;
    assert!(refuses(rabbitmq.port()));
    leaves_nothing(rabbitmq, &folder);
}

#[tokio::test]
async fn two_of_a_kind_do_not_meet() {
    let (one, other) = tokio::join!(RabbitMq::start(), RabbitMq::start());
    assert_ne!(one.url(), other.url());
    one.ctl(&["add_vhost", "of_one"]).await;
    assert!(!other.ctl(&["list_vhosts"]).await.contains("of_one"));
}

#[tokio::test]
#[should_panic(expected = "Postgres does not start")]
async fn a_server_that_cannot_start_says_so_with_its_log() {
    Postgres::options().setting("no_such_setting=1").start().await;
}

fn refuses(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}

fn leaves_nothing(server: impl Sized, folder: &Path) {
    assert!(folder.is_dir());
    drop(server);
    assert!(!folder.exists());
}

/// CreateTopics (19), version 4: one topic with the broker's own number of partitions and copies.
fn create_topic(port: u16, name: &str) {
    let name = short(name);
    let topic = [&name[..], &(-1_i32).to_be_bytes(), &(-1_i16).to_be_bytes(), &[0; 8]].concat();
    let answer =
        ask(port, 19, 4, &[&1_i32.to_be_bytes(), &topic[..], &10_000_i32.to_be_bytes(), &[0]].concat());
    // Correlation, throttling, how many; then the name and its error.
    let error = &answer[12 + name.len()..][..2];
    assert_eq!(error, [0, 0], "the topic is created");
}

/// Metadata (3), version 4, about one topic: how many partitions it has, once every one of them has a leader.
fn partitions(port: u16, name: &str) -> usize {
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let answer = ask(port, 3, 4, &[&1_i32.to_be_bytes(), &short(name)[..], &[0]].concat());
        let name = short(name);
        let at = answer.windows(name.len()).rposition(|window| window == name).expect("the topic is named");
        // Before the name stands the topic's error; behind it whether it is internal, and its partitions.
        if answer[at - 2..at] == [0, 0] {
            let count = &answer[at + name.len() + 1..][..4];
            return u32::from_be_bytes(count.try_into().expect("four bytes")) as usize;
        }
        assert!(Instant::now() < until, "the topic comes back: {answer:?}");
    }
}

fn ask(port: u16, request: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let head = [&request.to_be_bytes(), &version.to_be_bytes(), &[0, 0, 0, 1, 0xff, 0xff][..]].concat();
    let length = i32::try_from(head.len() + body.len()).expect("a short request");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    stream.write_all(&[&length.to_be_bytes(), &head[..], body].concat()).expect("it reads");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("it answers");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("it answers in full");
    answer
}

fn short(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
