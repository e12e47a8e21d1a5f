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

impl Auth {
    /// Reads the one way to sign in that is configured; two are an error, since only one would be used.
    pub(crate) fn read(settings: &Settings) -> Result<Self, ConnectorError> {
        let basic = settings.text("username").is_some() || settings.secret("password").is_some();
        let token = settings.secret("token");
        let key = settings.secret("api_key");
        let lonely =
            ["api_key_header", "api_key_query"].into_iter().find(|name| settings.text(name).is_some());
        match (basic, token, key) {
            (false, None, None) => match lonely {
                Some(name) => Err(wrong(name, "is without effect: there is no `api_key`")),
                None => Ok(Self::None),
            },
            (true, None, None) => Self::basic(settings),
            (false, Some(token), None) => Self::header("token", "authorization", "Bearer ", token),
            (false, None, Some(key)) => Self::api_key(settings, key),
            _ => Err(wrong(
                "token",
                "use one way to sign in: `username` and `password`, `token`, or `api_key`",
            )),
        }
    }

    /// The secrets that are in this, in the forms in which they travel.
    pub(crate) fn basic_pair(settings: &Settings) -> Option<SecretString> {
        let (username, password) = (settings.text("username")?, settings.secret("password")?);
        Some(STANDARD.encode(format!("{username}:{}", password.expose_secret())).into())
    }

    fn basic(settings: &Settings) -> Result<Self, ConnectorError> {
        if settings.text("username").is_some_and(|name| name.contains(':')) {
            return Err(wrong("username", "holds a colon, which Basic cannot carry"));
        }
        let pair = Self::basic_pair(settings)
            .ok_or_else(|| wrong("username", "`username` and `password` belong together"))?;
        Self::header("password", "authorization", "Basic ", &pair)
    }

    fn api_key(settings: &Settings, key: &SecretString) -> Result<Self, ConnectorError> {
        match (settings.text("api_key_header"), settings.text("api_key_query")) {
            (Some(_), Some(_)) => Err(wrong("api_key_query", "use a header or a query parameter, not both")),
            (None, Some("")) => Err(wrong("api_key_query", "is empty")),
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
