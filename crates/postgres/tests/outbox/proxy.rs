//! A proxy that can swallow what passes: connections stay open, and nothing comes through any more.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Listens on a port of its own.
pub struct Proxy {
    url: String,
    /// Connections that began before this generation are swallowed.
    generation: Arc<AtomicU64>,
}

impl Proxy {
    /// In front of a database.
    pub async fn before(url: &str) -> Self {
        let (user, place) = url.split_once('@').expect("a user");
        let (server, database) = place.split_once('/').expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (generation, server) = (Arc::new(AtomicU64::new(0)), server.to_owned());
        let proxy =
            Self { url: format!("{user}@127.0.0.1:{port}/{database}"), generation: generation.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server listens");
                let ((client_in, client_out), (server_in, server_out)) =
                    (client.into_split(), server.into_split());
                let born = generation.load(Ordering::Relaxed);
                tokio::spawn(pass(client_in, server_out, born, generation.clone()));
                tokio::spawn(pass(server_in, client_out, born, generation.clone()));
            }
        });
        proxy
    }

    /// The address of the database, through the proxy.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Nothing passes any more on the connections that are open.
    pub fn swallow(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    born: u64,
    generation: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let swallowed = generation.load(Ordering::Relaxed) > born;
        if !swallowed && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
