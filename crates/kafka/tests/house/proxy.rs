//! A proxy on the loopback that cuts connections at the worst moment: after the request, before its answer.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Stands between a client and a port.
#[derive(Clone, Default)]
pub struct Proxy {
    cut: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// Takes a port to listen on.
    pub async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        (listener, port)
    }

    /// Hands on to a port what comes in.
    pub fn start(listener: TcpListener, to: u16) -> Self {
        let proxy = Self::default();
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let proxy = serving.clone();
                tokio::spawn(async move { proxy.serve(client, to).await });
            }
        });
        proxy
    }

    /// Throws the next bytes of the server away, and the connection with them.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }

    async fn serve(&self, mut client: TcpStream, to: u16) {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
        let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            tokio::select! {
                read = client.read(&mut up) => match read {
                    Ok(count) if count > 0 && server.write_all(&up[..count]).await.is_ok() => {}
                    _ => return,
                },
                read = server.read(&mut down) => match read {
                    Ok(_) if self.cut.swap(false, Ordering::SeqCst) => {
                        self.cuts.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    Ok(count) if count > 0 && client.write_all(&down[..count]).await.is_ok() => {}
                    _ => return,
                },
            }
        }
    }
}
