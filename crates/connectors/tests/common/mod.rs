//! What the tests of several connectors need.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use crossdock_sdk::{ConnectionName, Connector, Environment, Inbound, Setting, Settings, Webhook};

/// The webhook of a connection with these secrets and texts.
pub fn webhook(connector: &str, secrets: &[(&str, &str)], texts: &[(&str, &str)]) -> Arc<dyn Webhook> {
    static CONNECTORS: LazyLock<Vec<Arc<dyn Connector>>> = LazyLock::new(crossdock_connectors::connectors);
    let connector = CONNECTORS.iter().find(|known| known.spec().name == connector).expect("a connector");
    let secrets =
        secrets.iter().map(|(name, secret)| ((*name).to_owned(), Setting::Secret((*secret).into())));
    let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), Setting::Text((*text).to_owned())));
    let settings = Settings(secrets.chain(texts).collect::<BTreeMap<_, _>>());
    let name = ConnectionName::new("vendor").expect("a name");
    let connection = connector.connect(&name, &settings, Environment { loopback: true });
    connection.expect("a connection").webhook().expect("a webhook")
}

/// A request with these headers, whose names are in lower case.
pub fn request(headers: &[(&str, &str)], body: &str) -> Inbound {
    Inbound {
        method: "POST".to_owned(),
        uri: "/in/vendor".to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: body.to_owned().into(),
    }
}
