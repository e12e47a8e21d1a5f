//! The connector and its connections.

use std::sync::Arc;

use crossdock_sdk::{
    Action, Connection, ConnectionName, Connector, ConnectorError, ConnectorSpec, Environment, Settings,
    WrittenField, http::Method,
};

use crate::{
    action::Send,
    fields,
    target::{Target, call_header},
};

/// The connector `http`.
pub struct Http {
    spec: ConnectorSpec,
}

impl Http {
    /// The connector.
    pub fn new() -> Self {
        Self { spec: fields::spec() }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector for Http {
    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn connect(
        &self,
        _name: &ConnectionName,
        settings: &Settings,
        environment: Environment,
    ) -> Result<Arc<dyn Connection>, ConnectorError> {
        let target = Arc::new(Target::read(settings, environment)?);
        Ok(Arc::new(HttpConnection { target }))
    }
}

struct HttpConnection {
    target: Arc<Target>,
}

impl Connection for HttpConnection {
    fn action(&self, name: &str) -> Option<Arc<dyn Action>> {
        let method = match name {
            "post" => Method::POST,
            "put" => Method::PUT,
            "patch" => Method::PATCH,
            "delete" => Method::DELETE,
            "get" => Method::GET,
            _ => return None,
        };
        Some(Arc::new(Send::new(self.target.clone(), method)))
    }

    /// What is inserted into a path is percent-encoded, and into a header or a query only adds to the text, so what is wrong
    /// with the letter `x` in its place is wrong with every event.
    fn check(&self, written: WrittenField<'_>) -> Result<(), String> {
        match (written.field, written.name) {
            ("path", _) => self.target.base.join(written.text).map(drop).map_err(|error| error.to_string()),
            ("headers", Some(name)) => {
                call_header(name, written.text).map(drop).map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// An error about a field of `config`.
pub(crate) fn wrong(field: &str, message: impl Into<String>) -> ConnectorError {
    ConnectorError { field: Some(field.to_owned()), message: message.into() }
}
