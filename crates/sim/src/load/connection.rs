//! One connection of a load: a request at a time, kept alive, opened again when it breaks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Load, Schedule, report::Results};

/// The longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The pause after a connection could not be opened, so that a target that is down is not hammered.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

type Sender = SendRequest<Full<Bytes>>;

/// No answer came.
struct NoAnswer;

pub(super) async fn run(number: usize, load: Arc<Load>, schedule: Arc<Schedule>, results: Arc<Results>) {
    let (mut sender, mut nth) = (None, 0);
    while let Some(due) = schedule.next().await {
        let body = load.body(number, nth);
        nth += 1;
        match exchange(&mut sender, &load, body).await {
            Ok(status) => results.answered(status, due.elapsed()),
            Err(NoAnswer) => {
                results.unanswered();
                sender = None;
            }
        }
    }
}

async fn exchange(sender: &mut Option<Sender>, load: &Load, body: Bytes) -> Result<u16, NoAnswer> {
    let open = match sender {
        Some(open) => open,
        None => sender.insert(connect(load).await?),
    };
    let answer = async {
        open.ready().await?;
        let response = open.send_request(request(load, body)).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        Ok::<_, hyper::Error>(status)
    };
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(status)) => Ok(status),
        _ => Err(NoAnswer),
    }
}

async fn connect(load: &Load) -> Result<Sender, NoAnswer> {
    let Ok(stream) = TcpStream::connect(load.target).await else {
        tokio::time::sleep(REOPEN_AFTER).await;
        return Err(NoAnswer);
    };
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| NoAnswer)?;
    tokio::spawn(connection);
    Ok(sender)
}

fn request(load: &Load, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::post(load.path.as_str())
        .header(HOST, load.target.to_string())
        .header(CONTENT_TYPE, load.payload.content_type);
    for (name, value) in &load.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(body)).expect("path and headers of a load are valid HTTP")
}
