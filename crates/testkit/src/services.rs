//! The real servers that tests run against: the shared ones that `make up` starts, and [`private`](crate::services::private)
//! ones that a test may kill.
//!
//! The shared servers are found by the environment first (`CROSSDOCK_TEST_POSTGRES`, `CROSSDOCK_TEST_KAFKA`,
//! `CROSSDOCK_TEST_AMQP`), then by `target/services.env`, which `make up` writes. They are left running and are used by many
//! tests at a time: each test makes a database, a topic prefix or a virtual host of its own. A missing server is a failure, not
//! a skipped test: every function here panics with the command that starts it.

use std::process::Stdio;

use tokio::process::Command;

mod answers;
mod environment;

pub mod private;

/// Where Postgres is: `postgres://user@host:port/database`. The user may do everything.
pub fn postgres() -> String {
    environment::require("CROSSDOCK_TEST_POSTGRES")
}

/// Where Kafka is: `kafka://host:port`.
pub fn kafka() -> String {
    environment::require("CROSSDOCK_TEST_KAFKA")
}

/// Where RabbitMQ is: `amqp://user:password@host:port`, for the virtual host `/`. The user may do everything.
pub fn amqp() -> String {
    environment::require("CROSSDOCK_TEST_AMQP")
}

/// Runs `rabbitmqctl` with the shared RabbitMQ and gives what it printed, for example to add a virtual host:
/// `rabbitmqctl(&["add_vhost", "mine"])`, then the URL is [`amqp`] with `/mine` behind it. For a server that the environment
/// names, `CROSSDOCK_TEST_RABBITMQCTL` names the program. Takes a third of a second; panics if it fails.
pub async fn rabbitmqctl(arguments: &[&str]) -> String {
    let program = environment::require("CROSSDOCK_TEST_RABBITMQCTL");
    output(Command::new(program).args(arguments)).await
}

/// What a command printed; panics with what it complained about if it failed.
async fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.as_std()));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?} failed ({}): {printed}{complaint}",
        command.as_std(),
        output.status
    );
    printed
}
