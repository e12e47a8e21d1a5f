//! The accept loop: connections with their limits and time-outs.

use std::{io, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{ApiOptions, stalled::Stalled, starting::Doors};

/// The most bytes of a request's head, and the most headers in it.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// The pause after a connection could not be accepted because the process has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 until `shutdown` is cancelled; then takes no new connection, closes idle ones, and gives requests that
/// are out [`ApiOptions::drain`] to finish. Never fails: what a listener answers with is waited out.
///
/// HTTP/2 is left to the proxy that ends TLS: its streams have no deadline for their heads.
pub async fn serve(
    listener: TcpListener,
    doors: impl Into<Doors>,
    options: ApiOptions,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let (graceful, cut) = (GracefulShutdown::new(), CancellationToken::new());
    let (http, doors) = (protocol(&options), doors.into());
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            (accept(&listener).await, slot)
        };
        let (stream, slot) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        let io = TokioIo::new(Stalled::new(stream, options.write_timeout));
        let connection = http.serve_connection(io, TowerToHyperService::new(doors.router()));
        let (connection, cut) = (graceful.watch(connection), cut.clone());
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(error = %error, "connection ended");
                    }
                }
                () = cut.cancelled() => {}
            }
            drop(slot);
        });
    }
    drop(listener);
    options.closing.cancel();
    if timeout(options.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            within_s = options.drain.as_secs_f64(),
            "requests that did not end in time are cut off"
        );
        cut.cancel();
    }
}

fn protocol(options: &ApiOptions) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    http
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(error = %error, "answers on a connection may be late");
                }
                return stream;
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::error!(error = %error, "no connection can be accepted; is the limit of open files too low?");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Whether the connection was given up before it was accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
