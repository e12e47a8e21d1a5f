//! Servers of one test, to be stopped, killed and started again.
//!
//! ```text
//! let mut kafka = Kafka::start().await;                        // answers when this returns
//! let url = kafka.url();                                       // keeps its ports and its data
//! kafka.kill();                                                // kill -9
//! kafka.restart().await;
//! let tls = free_port();
//! let kafka = Kafka::options().listener("TLS", "SSL", tls).line("ssl.keystore.location=…").start().await;
//! ```
//!
//! They are processes on free ports of the loopback with their data in a temporary folder, and end with their value, or with
//! the test program however that ends. Their programs are those that `make up` uses; a machine that has none, because its
//! servers run in Docker or elsewhere, is told what to install. Everything panics when it does not come about.

use std::net::TcpListener;

use rand::RngExt;

mod authority;
mod kafka;
mod postgres;
mod program;
mod rabbitmq;
mod server;

pub use authority::{Authority, Signed};
pub use kafka::{Kafka, KafkaOptions};
pub use postgres::{Postgres, PostgresOptions};
pub use rabbitmq::{RabbitMq, RabbitMqOptions};
pub use server::{Kind, Server};

/// A port of the loopback that nothing listens on. From a range that neither the shared servers nor outgoing connections use,
/// so that a server which is down for a while most likely finds it free again.
pub fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(10_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
