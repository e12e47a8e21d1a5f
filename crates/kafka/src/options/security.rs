//! TLS and SASL.

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

/// TLS to the broker.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// Whom to trust; what the system trusts if none.
    pub(crate) ca: Option<String>,
    /// Our own certificate and its key, where the broker asks for one.
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<SecretString>,
    pub(crate) key_password: Option<SecretString>,
}

/// How we say who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OauthBearer,
}

impl Mechanism {
    pub(crate) const NAMES: [(&'static str, Self); 4] = [
        ("plain", Self::Plain),
        ("scram-sha-256", Self::ScramSha256),
        ("scram-sha-512", Self::ScramSha512),
        ("oauthbearer", Self::OauthBearer),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// A login.
#[derive(Clone)]
pub(crate) struct Sasl {
    pub(crate) mechanism: Mechanism,
    pub(crate) username: String,
    pub(crate) password: SecretString,
    /// Where a token is fetched, for [`Mechanism::OauthBearer`].
    pub(crate) token: Option<TokenEndpoint>,
}

/// Where and how a token is fetched: OAuth 2 client credentials, RFC 6749 section 4.4.
#[derive(Clone)]
pub(crate) struct TokenEndpoint {
    pub(crate) url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretString,
    pub(crate) scope: Option<String>,
}

/// Sets what TLS and SASL need.
pub(crate) fn secure(config: &mut ClientConfig, tls: Option<&Tls>, sasl: Option<&Sasl>) {
    let protocol = match (tls.is_some(), sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = tls {
        // OpenSSL is linked in and knows no system's folder: librdkafka looks in the usual ones.
        pem_or_file(config, "ssl.ca", Some(tls.ca.as_deref().unwrap_or("probe")));
        pem_or_file(config, "ssl.certificate", tls.certificate.as_deref());
        pem_or_file(config, "ssl.key", tls.key.as_ref().map(ExposeSecret::expose_secret));
        if let Some(password) = &tls.key_password {
            config.set("ssl.key.password", password.expose_secret());
        }
    }
    if let Some(sasl) = sasl {
        config.set("sasl.mechanism", sasl.mechanism.name());
        if sasl.token.is_none() {
            config.set("sasl.username", &sasl.username);
            config.set("sasl.password", sasl.password.expose_secret());
        }
    }
}

fn pem_or_file(config: &mut ClientConfig, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        let kind = if value.trim_start().starts_with("-----BEGIN") { "pem" } else { "location" };
        config.set(format!("{name}.{kind}"), value);
    }
}
