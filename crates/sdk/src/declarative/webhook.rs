//! Requests in, events out: verified first, read afterwards, and nothing else in between.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_expr::Document;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    compile::Source,
    emit::{Common, malformed},
};
use crate::{
    ConnectionName, Inbound, Inbox, Refusal, Setting, Settings, Webhook, manifest::HeaderRule,
    signature::Verifier,
};

/// The webhook of one connection.
pub(super) struct Receiver {
    source: Arc<Source>,
    matching: Vec<HeaderRule>,
    verifier: Option<Verifier>,
    /// The settings that are no secret.
    config: Document,
    /// The `source` of events.
    name: String,
}

impl Receiver {
    pub(super) fn new(
        source: Arc<Source>,
        verifier: Option<Verifier>,
        name: &ConnectionName,
        settings: &Settings,
    ) -> Self {
        let config = Document::new(Bytes::from(public(settings).to_string()));
        let matching = source.matching.iter().map(|rule| configured(rule, settings)).collect();
        Self { source, matching, verifier, config, name: format!("/connections/{name}") }
    }

    fn read(&self, request: &Inbound, now: Timestamp) -> Result<Inbox, Refusal> {
        if let Some(verifier) = &self.verifier {
            verifier.verify(request, now).map_err(|problem| Refusal::Unauthorized(problem.to_string()))?;
        }
        self.check_headers(request)?;
        let payload = self.source.payload(request)?;
        let body =
            Document::new(if payload.json { payload.data.clone() } else { Bytes::from_static(b"null") });
        let (headers, about) = (headers_of(request), about(request, now));
        let variables = [("headers", &headers), ("config", &self.config), ("request", &about)];
        if let Some(reply) = self.greet(&body, &variables)? {
            return Ok(reply);
        }
        let common =
            Common { variables: &variables, source: &self.name, content_type: &payload.content_type };
        self.source.emitter.events(&body, &payload.data, &common).map(Inbox::Accept)
    }

    fn check_headers(&self, request: &Inbound) -> Result<(), Refusal> {
        for rule in &self.matching {
            let Some(value) = request.header(&rule.header) else {
                return Err(malformed(format!("the header `{}` is missing", rule.header), None));
            };
            if !rule.values.is_empty() && !rule.values.iter().any(|allowed| allowed == value) {
                let allowed = rule.values.join(", ");
                return Err(malformed(format!("the header `{}` is none of: {allowed}", rule.header), None));
            }
        }
        Ok(())
    }

    fn greet(
        &self,
        body: &Document,
        variables: &crossdock_expr::Variables<'_>,
    ) -> Result<Option<Inbox>, Refusal> {
        let Some(greeting) = &self.source.handshake else { return Ok(None) };
        let failed = |error| malformed(format!("failed to read the handshake: {error}"), None);
        if !greeting.when.test(body, variables).map_err(failed)? {
            return Ok(None);
        }
        let reply = greeting.reply.text(body, variables).map_err(failed)?;
        let body = Bytes::from(reply);
        Ok(Some(Inbox::Reply { status: 200, content_type: greeting.content_type, body }))
    }
}

impl Webhook for Receiver {
    fn handle(&self, request: &Inbound, now: Timestamp) -> Inbox {
        self.read(request, now).unwrap_or_else(Inbox::Refuse)
    }
}

/// The rule with the value that the operator has set.
fn configured(rule: &HeaderRule, settings: &Settings) -> HeaderRule {
    let value = rule.setting.as_deref().and_then(|field| settings.text(field));
    let values = value.map_or_else(|| rule.values.clone(), |value| vec![value.to_owned()]);
    HeaderRule { values, ..rule.clone() }
}

/// The headers as an object; of several with one name the first counts, as for the signature. Credentials are left out,
/// so that no expression can put them into an event.
fn headers_of(request: &Inbound) -> Document {
    let secret = |name: &str| matches!(name, "authorization" | "cookie" | "proxy-authorization");
    let headers = request.headers.clone();
    Document::lazy(move || {
        let mut object = Map::new();
        for (name, value) in headers {
            if !secret(&name) && !object.contains_key(&name) {
                object.insert(name, Value::String(value));
            }
        }
        Bytes::from(Value::Object(object).to_string())
    })
}

fn about(request: &Inbound, now: Timestamp) -> Document {
    let (method, uri) = (request.method.clone(), request.uri.clone());
    Document::lazy(move || {
        let id = uuid::Uuid::now_v7().to_string();
        let time = now.to_string();
        Bytes::from(serde_json::json!({ "id": id, "time": time, "method": method, "uri": uri }).to_string())
    })
}

/// The settings that expressions may see.
fn public(settings: &Settings) -> Value {
    let text_map = |map: &[(String, String)]| {
        Value::Object(map.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect())
    };
    let value = |setting: &Setting| match setting {
        Setting::Text(text) | Setting::Url(text, _) => Some(Value::from(text.as_str())),
        Setting::Integer(number) => Some(Value::from(*number)),
        Setting::Bool(truth) => Some(Value::from(*truth)),
        Setting::Duration(duration) => Some(Value::from(duration.as_secs_f64())),
        Setting::TextMap(map) => Some(text_map(map)),
        Setting::TextList(list) => Some(Value::from(list.clone())),
        Setting::Secret(_) | Setting::SecretMap(_) => None,
    };
    let fields = settings.0.iter().filter_map(|(name, setting)| Some((name.clone(), value(setting)?)));
    Value::Object(fields.collect())
}
