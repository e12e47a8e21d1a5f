//! A connector that is a manifest, behind the same trait as one that is code.

mod body;
mod check;
mod compile;
mod emit;
mod webhook;

use std::sync::Arc;

use crate::{
    Connection, ConnectionName, Connector, ConnectorError, ConnectorSpec, Environment, ExposeSecret,
    Settings, Webhook,
    manifest::{Manifest, ManifestError, TestCase},
    signature::{SecretError, SecretFormat, Verifier},
};

pub use check::CheckFailure;
use compile::Source;
use webhook::Receiver;

/// A connector that is a manifest. Everything in it is compiled when it is loaded.
pub struct Declarative {
    spec: ConnectorSpec,
    source: Option<Arc<Source>>,
    tests: Vec<TestCase>,
}

impl Declarative {
    /// Reads and compiles a manifest; `file` is its name in errors.
    pub fn load(file: &str, yaml: &str) -> Result<Self, ManifestError> {
        let manifest = Manifest::parse(file, yaml)?;
        let spec = ConnectorSpec {
            name: manifest.name,
            about: manifest.about,
            config: manifest.config.iter().map(|(name, field)| field.to_field(name)).collect(),
            actions: Vec::new(),
            source: manifest.webhook.is_some(),
        };
        let source = match manifest.webhook {
            Some(webhook) => Some(Arc::new(compile::Compiler { file, yaml, spec: &spec }.source(webhook)?)),
            None => None,
        };
        Ok(Self { spec, source, tests: manifest.tests })
    }
}

impl Connector for Declarative {
    fn spec(&self) -> &ConnectorSpec {
        &self.spec
    }

    fn connect(
        &self,
        name: &ConnectionName,
        settings: &Settings,
        _environment: Environment,
    ) -> Result<Arc<dyn Connection>, ConnectorError> {
        let webhook = match &self.source {
            Some(source) => Some(Arc::new(receiver(source, name, settings)?) as Arc<dyn Webhook>),
            None => None,
        };
        Ok(Arc::new(DeclaredConnection { webhook }))
    }
}

/// The webhook of a connection. One without a secret is refused here, and not found open in production.
fn receiver(
    source: &Arc<Source>,
    name: &ConnectionName,
    settings: &Settings,
) -> Result<Receiver, ConnectorError> {
    let error = |field: &str, message: String| ConnectorError { field: Some(field.to_owned()), message };
    if let Some(field) = &source.unsigned
        && settings.bool(field) != Some(true)
    {
        let message = "requests are not signed, so anyone who knows the address can post events; \
                       write `true` if that is meant";
        return Err(error(field, message.to_owned()));
    }
    let verifier = match &source.verify {
        None => None,
        Some(recipe) => {
            let fields = &recipe.secret.from;
            let first = fields.first().map_or("secret", String::as_str);
            for field in fields {
                check_secret(&recipe.secret, settings, field).map_err(|problem| error(field, problem))?;
            }
            let secrets: Vec<_> = fields.iter().filter_map(|field| settings.secret(field)).collect();
            let verifier = Verifier::new(recipe.configured(settings)?, &secrets);
            Some(verifier.map_err(|problem| error(first, problem.to_string()))?)
        }
    };
    Ok(Receiver::new(source.clone(), verifier, name, settings))
}

/// Whether the secret of a field, if it is there, can be used.
fn check_secret(format: &SecretFormat, settings: &Settings, field: &str) -> Result<(), String> {
    let Some(secret) = settings.secret(field).map(ExposeSecret::expose_secret) else { return Ok(()) };
    let problem = match format.decode(secret) {
        Ok(_) if secret.trim().is_empty() => SecretError::Empty,
        Ok(_) => return Ok(()),
        Err(problem) => problem,
    };
    Err(match format.help() {
        Some(help) => format!("{problem}; {help}"),
        None => problem.to_string(),
    })
}

struct DeclaredConnection {
    webhook: Option<Arc<dyn Webhook>>,
}

impl Connection for DeclaredConnection {
    fn webhook(&self) -> Option<Arc<dyn Webhook>> {
        self.webhook.clone()
    }
}
