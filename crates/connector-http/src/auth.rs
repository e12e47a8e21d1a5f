//! Who we say that we are.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crossdock_sdk::{
    ConnectorError, ExposeSecret, SecretString, Settings,
    http::{HeaderName, HeaderValue, secret_value},
};

use crate::connector::wrong;

/// What goes into each call so that the other side knows us.
pub(crate) enum Auth {
    /// Nothing.
    None,
    /// A header.
    Header(HeaderName, HeaderValue),
    /// A query parameter.
    Query(String, SecretString),
}

/// A way to sign in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    ApiKey,
    Basic,
    Bearer,
}

/// The words that `auth` takes.
pub(crate) const KINDS: [&str; 4] = ["none", "api_key", "basic", "bearer"];

/// Each field with the way to sign in that it belongs to.
const FIELDS: [(&str, Kind); 6] = [
    ("username", Kind::Basic),
    ("password", Kind::Basic),
    ("token", Kind::Bearer),
    ("api_key", Kind::ApiKey),
    ("api_key_header", Kind::ApiKey),
    ("api_key_query", Kind::ApiKey),
];

impl Auth {
    /// Reads the one way to sign in that is configured; a field of another is an error, since it would be without effect.
    pub(crate) fn read(settings: &Settings) -> Result<Self, ConnectorError> {
        let written = FIELDS.iter().filter(|(field, _)| settings.0.contains_key(*field));
        let kind = match settings.text("auth") {
            Some(word) => named(word)?,
            None => written.clone().next().map_or(Kind::None, |(_, kind)| *kind),
        };
        if let Some((field, other)) = written.clone().find(|(_, other)| *other != kind) {
            let message = format!("belongs to `auth: {}`, which is not used here", other.word());
            return Err(wrong(field, message));
        }
        match kind {
            Kind::None => Ok(Self::None),
            Kind::ApiKey => Self::api_key(settings),
            Kind::Basic => Self::basic(settings),
            Kind::Bearer => {
                let token = settings.secret("token").ok_or_else(|| kind.needs("token"))?;
                Self::header("token", "authorization", "Bearer ", token)
            }
        }
    }

    /// The name and the password in the form in which they travel.
    pub(crate) fn basic_pair(settings: &Settings) -> Option<SecretString> {
        let (username, password) = (settings.text("username")?, settings.secret("password")?);
        Some(STANDARD.encode(format!("{username}:{}", password.expose_secret())).into())
    }

    fn basic(settings: &Settings) -> Result<Self, ConnectorError> {
        if settings.text("username").is_some_and(|name| name.contains(':')) {
            return Err(wrong("username", "holds a colon, which Basic cannot carry"));
        }
        let missing = if settings.text("username").is_none() { "username" } else { "password" };
        let pair = Self::basic_pair(settings).ok_or_else(|| Kind::Basic.needs(missing))?;
        Self::header("password", "authorization", "Basic ", &pair)
    }

    fn api_key(settings: &Settings) -> Result<Self, ConnectorError> {
        let key = settings.secret("api_key").ok_or_else(|| Kind::ApiKey.needs("api_key"))?;
        match (settings.text("api_key_header"), settings.text("api_key_query")) {
            (Some(_), Some(_)) => Err(wrong("api_key_query", "use a header or a query parameter, not both")),
            (None, Some("")) => Err(wrong("api_key_query", "is empty")),
            (None, Some(_)) if key.expose_secret().is_empty() => Err(wrong("api_key", "is empty")),
            (None, Some(name)) => Ok(Self::Query(name.to_owned(), key.clone())),
            (header, None) => Self::header("api_key", header.unwrap_or("x-api-key"), "", key),
        }
    }

    fn header(field: &str, name: &str, scheme: &str, secret: &SecretString) -> Result<Self, ConnectorError> {
        if secret.expose_secret().is_empty() {
            return Err(wrong(field, "is empty"));
        }
        let (name, value) = secret_value(name, &format!("{scheme}{}", secret.expose_secret()))
            .map_err(|error| wrong(field, error.to_string()))?;
        Ok(Self::Header(name, value))
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::None => KINDS[0],
            Self::ApiKey => KINDS[1],
            Self::Basic => KINDS[2],
            Self::Bearer => KINDS[3],
        }
    }

    fn needs(self, field: &str) -> ConnectorError {
        wrong("auth", format!("`{}` needs `{field}`", self.word()))
    }
}

fn named(word: &str) -> Result<Kind, ConnectorError> {
    let all = [Kind::None, Kind::ApiKey, Kind::Basic, Kind::Bearer];
    let found = all.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| wrong("auth", format!("takes one of: {}", KINDS.join(", "))))
}
