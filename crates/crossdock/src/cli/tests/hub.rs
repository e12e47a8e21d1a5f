//! A hub that gives recorded answers and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

/// A question and its answer: `GET /v1/status`, the status, the body. Of several answers to one question, each is given
/// once, in order, and the last one for ever.
pub type Recorded = (&'static str, u16, &'static str);

/// A hub that listens.
pub struct Hub {
    /// Where.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Method, path and query.
    pub question: String,
    /// `authorization` and `x-crossdock-actor`.
    pub headers: [String; 2],
    /// The body.
    pub body: String,
}

#[derive(Clone)]
struct Answers {
    recorded: Arc<Mutex<Vec<Recorded>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Hub {
    /// Listens on a free port.
    pub async fn start(recorded: &[Recorded]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Answers { recorded: Arc::new(Mutex::new(recorded.to_vec())), asked: asked.clone() };
        let router = Router::new().fallback(answer).with_state(answers);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked }
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    State(answers): State<Answers>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default()
    };
    let question = format!("{method} {uri}");
    let body = String::from_utf8_lossy(&body).into_owned();
    let headers = [header("authorization"), header("x-crossdock-actor")];
    answers.asked.lock().unwrap().push(Asked { question: question.clone(), headers, body });
    let (status, body) = next(&mut answers.recorded.lock().unwrap(), &question);
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn next(recorded: &mut Vec<Recorded>, question: &str) -> (u16, String) {
    let of = |(known, ..): &Recorded| *known == question;
    let left = recorded.iter().filter(|answer| of(answer)).count();
    match recorded.iter().position(of) {
        Some(first) => {
            let (_, status, body) = if left > 1 { recorded.remove(first) } else { recorded[first] };
            (status, body.to_owned())
        }
        None => (
            404,
            format!(
                r#"{{"title":"There is no such thing","status":404,"detail":"nothing is recorded for {question}"}}"#
            ),
        ),
    }
}
