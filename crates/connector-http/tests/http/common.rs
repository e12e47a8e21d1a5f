//! A server that keeps every byte it is sent, and a connection that calls it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossdock_connector_http::Http;
use crossdock_sdk::{
    Action, Body, Connection, ConnectionName, Connector, ConnectorError, Environment, Item, Output, Setting,
    Settings,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method and target.
    pub line: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Answers every request with the same bytes.
pub struct Server {
    /// Its base URL.
    pub url: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// A server that answers with a status and no body.
    pub async fn answering(status: &str) -> Self {
        Self::with(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await
    }

    /// A server that answers with these bytes.
    pub async fn with(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (server.connections.clone(), server.requests.clone());
        let answer: Arc<[u8]> = answer.as_bytes().into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, requests.clone(), answer.clone()));
            }
        });
        server
    }

    /// How many connections were opened.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What came.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, requests: Arc<Mutex<Vec<Request>>>, answer: Arc<[u8]>) {
    let mut bytes = Vec::new();
    while let Some(request) = read(&mut stream, &mut bytes).await {
        requests.lock().unwrap().push(request);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// One request; what follows it stays in `bytes`.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            let headers: Vec<_> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length = length.map_or(0, |(_, length)| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..end + 4 + length].to_vec();
                bytes.drain(..end + 4 + length);
                return Some(Request { line, headers, body });
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A hub on loopback.
pub const LOOPBACK: Environment = Environment { loopback: true };

/// `config` of a connection.
pub fn settings(base_url: &str, more: Vec<(&str, Setting)>) -> Settings {
    let base_url = ("base_url", Setting::Url(base_url.to_owned(), Vec::new()));
    let all = std::iter::once(base_url).chain(more);
    Settings(all.map(|(name, setting)| (name.to_owned(), setting)).collect())
}

/// A connection.
pub fn connection(
    base_url: &str,
    more: Vec<(&str, Setting)>,
    environment: Environment,
) -> Result<Arc<dyn Connection>, ConnectorError> {
    Http::new().connect(&ConnectionName::new("tracker").unwrap(), &settings(base_url, more), environment)
}

/// An action of a connection.
pub fn action(
    name: &str,
    base_url: &str,
    more: Vec<(&str, Setting)>,
    environment: Environment,
) -> Result<Arc<dyn Action>, ConnectorError> {
    Ok(connection(base_url, more, environment)?.action(name).expect("the action is there"))
}

/// Why no connection can be made: the field and the message.
pub fn refused(base_url: &str, more: Vec<(&str, Setting)>, environment: Environment) -> (String, String) {
    let Err(error) = action("post", base_url, more, environment) else { panic!("a connection was made") };
    (error.field.unwrap_or_default(), error.message)
}

/// An item with a JSON body.
pub fn item(body: &str) -> Item {
    Item {
        fields: Vec::new(),
        body: Body { content_type: Some("application/json".to_owned()), bytes: body.to_owned().into() },
        idempotency_key: "evt-1_0123456789abcdef".to_owned(),
        attempt: 1,
        traceparent: None,
    }
}

/// The same item with a field.
pub fn with(mut item: Item, field: &'static str, value: impl Into<Value>) -> Item {
    item.fields.push((field, value.into()));
    item
}

/// Calls with one item; never waits longer than a test may.
pub async fn call(action: &Arc<dyn Action>, item: Item) -> Output {
    let items = [item];
    let outputs = tokio::time::timeout(Duration::from_secs(20), action.call(&items));
    outputs.await.expect("an action ends by itself").pop().expect("one output for one item")
}

/// Makes a connection and calls once.
pub async fn call_once(name: &str, base_url: &str, more: Vec<(&str, Setting)>, item: Item) -> Output {
    call(&action(name, base_url, more, LOOPBACK).expect("a connection"), item).await
}

/// A text.
pub fn text(value: &str) -> Setting {
    Setting::Text(value.to_owned())
}

/// A secret.
pub fn secret(value: &str) -> Setting {
    Setting::Secret(value.into())
}
