//! The HTTP server behind every receiver: one task per connection, keep-alive, loopback only.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    Answer, Received,
    answer::{AnswerBody, Manner},
};

/// The largest request that is read.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest that a hanging answer hangs.
const HANG_MAX: Duration = Duration::from_secs(3600);

/// A system could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the {system} while {doing}")]
pub struct StartError {
    /// Which.
    pub system: &'static str,
    /// What we were doing.
    pub doing: &'static str,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

/// What stands behind a server. Decides at once and writes the request down before it returns; whatever takes time is
/// part of the answer.
pub(crate) trait System: Send + Sync + 'static {
    fn answer(&self, request: Received) -> Answer;
}

/// A running server. Dropping it stops it.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Server {
    /// Listens on a port of 127.0.0.1; 0 takes a free one.
    pub(crate) async fn start(
        name: &'static str,
        port: u16,
        system: Arc<impl System>,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError { system: name, doing: "listening on 127.0.0.1", source };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(accept(listener, system, tasks.clone(), stop.clone()));
        Ok(Self { addr, tasks, stop: stop.drop_guard() })
    }

    /// Closes the listener and every connection, also in the middle of an answer.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept(
    listener: TcpListener,
    system: Arc<impl System>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let serve = serve(stream, Arc::clone(&system), stop.clone());
                let stop = stop.clone();
                tasks.spawn(async move { stop.run_until_cancelled(serve).await });
            }
            // Out of file descriptors: the next connection that closes frees one.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn serve(stream: TcpStream, system: Arc<impl System>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let (system, stop) = (Arc::clone(&system), stop.clone());
        async move { respond(request, &*system, &stop).await }
    });
    // A connection that ends badly is the sender's affair, and often what a test is about.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
struct Cut;

async fn respond(
    request: Request<Incoming>,
    system: &impl System,
    stop: &CancellationToken,
) -> Result<Response<AnswerBody>, Cut> {
    let (head, body) = request.into_parts();
    let body = read(body).await.ok_or(Cut)?;
    let answer = system.answer(Received { method: head.method, uri: head.uri, headers: head.headers, body });
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    match answer.manner {
        Manner::Hang => {
            let _ = tokio::time::timeout(HANG_MAX, stop.cancelled()).await;
            Err(Cut)
        }
        Manner::Cut => Err(Cut),
        Manner::Plain | Manner::Drip { .. } | Manner::Huge { .. } => Ok(answer.into_response()),
    }
}

async fn read(body: Incoming) -> Option<Bytes> {
    Some(Limited::new(body, BODY_BYTES_MAX).collect().await.ok()?.to_bytes())
}
