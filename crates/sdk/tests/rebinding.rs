//! A name that leads elsewhere than it did: the client dials only what the guard has seen and allowed.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use crossdock_sdk::{
    Class, Environment, Fault,
    http::{Answer, Call, Client, Guard, HeaderMap, Lookup, Method, Network},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Allowed by the guard of these tests.
const GOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Refused by it.
const BAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// Answers each question with the next addresses, whatever the name.
struct Rebinding(Mutex<VecDeque<Vec<IpAddr>>>);

#[async_trait]
impl Lookup for Rebinding {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        assert_eq!(name, "rebind.example");
        let next = self.0.lock().expect("no holder of this lock panics").pop_front();
        next.ok_or_else(|| io::Error::other("asked too often"))
    }
}

/// Counts connections, answers each with 200 and closes it, so that the next call asks for the address again.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// One at this port, or nothing if the port is taken there.
    async fn at(address: Ipv4Addr, port: u16) -> Option<Self> {
        let listener = TcpListener::bind((address, port)).await.ok()?;
        let port = listener.local_addr().ok()?.port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut head = [0; 1024];
                    if stream.read(&mut head).await.is_ok() {
                        let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                        stream.write_all(answer).await.expect("the caller listens");
                    }
                });
            }
        });
        Some(Self { port, connections })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Servers at the good and at the bad address, with the same port.
async fn servers() -> (Server, Server) {
    loop {
        let good = Server::at(GOOD, 0).await.expect("loopback is more than one address");
        if let Some(bad) = Server::at(BAD, good.port).await {
            return (good, bad);
        }
    }
}

fn client(answers: &[&[IpAddr]]) -> Client {
    let answers = answers.iter().map(|addresses| addresses.to_vec()).collect();
    let guard = Guard::new(Environment { loopback: false }, None, &[GOOD.to_string()]).expect("an address");
    let network = Network { guard, connect_timeout: Duration::from_secs(5) };
    Client::with_lookup(&network, Arc::new(Rebinding(Mutex::new(answers)))).expect("a client")
}

async fn get(client: &Client, host: &str, port: u16) -> Result<Answer, Fault> {
    let call = Call {
        method: Method::GET,
        url: format!("http://{host}:{port}/").parse().expect("a URL"),
        headers: HeaderMap::new(),
        body: None,
        timeout: Duration::from_secs(20),
        repeatable: false,
    };
    client.send(call).await
}

fn is_refused(result: Result<Answer, Fault>) -> bool {
    let fault = result.expect_err("it is refused");
    assert_eq!(
        (fault.class, fault.code.as_deref()),
        (Class::Transient, Some("address_refused")),
        "{fault:?}"
    );
    fault.advice.is_some()
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_after_the_first_call_is_not_followed() {
    let (good, bad) = servers().await;
    let client = client(&[&[GOOD.into()], &[BAD.into()], &[GOOD.into()]]);
    assert!(get(&client, "rebind.example", good.port).await.is_ok());
    assert!(is_refused(get(&client, "rebind.example", good.port).await));
    assert!(get(&client, "rebind.example", good.port).await.is_ok());
    assert_eq!((good.connections(), bad.connections()), (2, 0));
}

#[tokio::test]
async fn of_several_addresses_only_those_that_may_be_called_are_dialled() {
    let (good, bad) = servers().await;
    let client = client(&[&[BAD.into(), GOOD.into()]]);
    assert!(get(&client, "rebind.example", good.port).await.is_ok());
    assert_eq!((good.connections(), bad.connections()), (1, 0));
}

#[tokio::test]
async fn a_special_address_is_refused_in_every_spelling_that_a_name_may_have() {
    for address in ["169.254.169.254", "::ffff:169.254.169.254", "::ffff:127.0.0.1", "fe80::1", "::1"] {
        let client = client(&[&[address.parse().expect("an address")]]);
        assert!(is_refused(get(&client, "rebind.example", 80).await), "{address}");
    }
}

#[tokio::test]
async fn an_address_in_the_url_is_refused_without_a_lookup() {
    let (good, bad) = servers().await;
    for host in ["127.0.0.1", "localhost", "[::ffff:7f00:1]"] {
        assert!(is_refused(get(&client(&[]), host, bad.port).await), "{host}");
    }
    assert_eq!((good.connections(), bad.connections()), (0, 0));
}
