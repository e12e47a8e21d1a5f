//! The fields of a connection and of its actions.

use crossdock_sdk::{ActionSpec, ConnectorSpec, Field, FieldKind};

use crate::auth;

const fn optional(name: &'static str, kind: FieldKind, about: &'static str) -> Field {
    Field { name, kind, required: false, about }
}

const CONFIG: [Field; 17] = [
    Field {
        name: "base_url",
        kind: FieldKind::Url,
        required: true,
        about: "Where calls go; paths are put behind it and cannot leave it. Its own path is shown nowhere.",
    },
    optional("headers", FieldKind::TextMap, "Headers of every call."),
    optional("secret_headers", FieldKind::SecretMap, "Headers of every call whose values are secret."),
    optional(
        "auth",
        FieldKind::Choice(&auth::KINDS),
        "How calls sign in; follows from the fields below unless written.",
    ),
    optional("username", FieldKind::Text, "Signs in with Basic, together with `password`."),
    optional("password", FieldKind::Secret, "Signs in with Basic, together with `username`."),
    optional("token", FieldKind::Secret, "Signs in with `Authorization: Bearer`."),
    optional("api_key", FieldKind::Secret, "Signs in with a key in a header, by default `x-api-key`."),
    optional("api_key_header", FieldKind::Text, "The header that `api_key` goes into."),
    optional(
        "api_key_query",
        FieldKind::Text,
        "The query parameter that `api_key` goes into, instead of a header.",
    ),
    optional(
        "signing_secret",
        FieldKind::Secret,
        "Signs calls by Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes; several, with spaces between, while it is changed.",
    ),
    optional(
        "timeout",
        FieldKind::Duration,
        "How long a call may take in all; 30s unless written, at most 10m.",
    ),
    optional(
        "connect_timeout",
        FieldKind::Duration,
        "How long it may take to connect; 5s unless written, at most four fifths of `timeout`.",
    ),
    optional(
        "allow_loopback",
        FieldKind::Bool,
        "Whether this machine may be called; only if the hub listens on loopback, unless written.",
    ),
    optional(
        "allow_addresses",
        FieldKind::TextList,
        "Addresses or blocks that may be called although they are special, such as 169.254.10.0/24.",
    ),
    optional(
        "idempotent",
        FieldKind::Bool,
        "Whether the receiver drops a `webhook-id` that it has seen, so that a call whose answer was lost may be repeated; true unless written.",
    ),
    optional(
        "success",
        FieldKind::TextList,
        "Statuses outside of 2xx that are success too, such as 409 from a receiver that has the event already.",
    ),
];

static ACTION: [Field; 3] = [
    optional("path", FieldKind::Path, "The path behind `base_url`; nothing unless written."),
    optional("query", FieldKind::TextMap, "Query parameters; values are encoded."),
    optional(
        "headers",
        FieldKind::TextMap,
        "Headers of this call, over those of the connection; values are ASCII, so `${.name | @uri}` for names of people.",
    ),
];

/// What the connector says of itself.
pub(crate) fn spec() -> ConnectorSpec {
    let action = |name, about| ActionSpec { name, about, fields: &ACTION };
    ConnectorSpec {
        name: "http".to_owned(),
        about: "Calls any HTTP API; signs by Standard Webhooks.".to_owned(),
        config: CONFIG.to_vec(),
        actions: vec![
            action("post", "Sends the event with POST."),
            action("put", "Sends the event with PUT."),
            action("patch", "Sends the event with PATCH."),
            action("delete", "Calls with DELETE; no body is sent."),
            action("get", "Calls with GET; no body is sent."),
        ],
        source: false,
    }
}
