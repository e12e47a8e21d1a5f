//! A connection's configuration, read once.

use std::time::Duration;

use crossdock_sdk::{
    ConnectorError, Environment, ExposeSecret, Redactor, SecretString, Settings,
    http::{
        BaseUrl, Client, Guard, HeaderError, HeaderMap, HeaderName, HeaderValue, Network, own_header,
        secret_value,
    },
    signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, StandardSigner},
};

use crate::{auth::Auth, connector::wrong};

/// Thirty seconds for a call: longer than any API answers when it works, shorter than a lane should stand still.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time-out: a lane stands still as long, and the hub itself gives up on a call soon afterwards.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Everything that calls of one connection have in common.
pub(crate) struct Target {
    pub(crate) base: BaseUrl,
    /// The headers of every call, those that sign in included.
    pub(crate) headers: HeaderMap,
    /// A query parameter that signs in.
    pub(crate) query_key: Option<(String, SecretString)>,
    pub(crate) signer: Option<StandardSigner>,
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
    pub(crate) idempotent: bool,
    pub(crate) success: Vec<u16>,
    pub(crate) redactor: Redactor,
}

impl Target {
    /// Checks and reads the configuration. Opens nothing.
    pub(crate) fn read(settings: &Settings, environment: Environment) -> Result<Self, ConnectorError> {
        let base = BaseUrl::parse(settings.text("base_url").unwrap_or_default());
        let base = base.map_err(|error| wrong("base_url", error.to_string()))?;
        let timeout = positive(settings, "timeout", TIMEOUT)?;
        let mut headers = fixed_headers(settings)?;
        let query_key = match Auth::read(settings)? {
            Auth::None => None,
            Auth::Query(name, key) => Some((name, key)),
            Auth::Header(name, value) => {
                if headers.insert(&name, value).is_some() {
                    return Err(wrong(
                        "secret_headers",
                        format!("`{name}` is set by the way to sign in already"),
                    ));
                }
                None
            }
        };
        Ok(Self {
            client: client(settings, environment, &base, timeout)?,
            signer: signer(settings)?,
            redactor: redactor(settings, &base),
            success: success(settings)?,
            idempotent: settings.bool("idempotent").unwrap_or(true),
            base,
            headers,
            query_key,
            timeout,
        })
    }
}

fn client(
    settings: &Settings,
    environment: Environment,
    base: &BaseUrl,
    timeout: Duration,
) -> Result<Client, ConnectorError> {
    let guard =
        Guard::new(environment, settings.bool("allow_loopback"), settings.text_list("allow_addresses"))
            .map_err(|message| wrong("allow_addresses", message))?;
    guard
        .check_url(base.url())
        .map_err(|refused| wrong("base_url", format!("{refused}; {}", refused.advice())))?;
    // Always well before the call as a whole: a connection that was not made is safe to try again, a lost answer may not be.
    let connect_timeout =
        positive(settings, "connect_timeout", Network::CONNECT_TIMEOUT)?.min(timeout * 4 / 5);
    let client = Client::shared(Network { guard, connect_timeout });
    client.map_err(|error| ConnectorError { field: None, message: error.to_string() })
}

fn signer(settings: &Settings) -> Result<Option<StandardSigner>, ConnectorError> {
    let Some(secret) = settings.secret("signing_secret") else { return Ok(None) };
    let signer = StandardSigner::new(secret);
    let help = StandardSigner::SECRET_HELP;
    signer.map(Some).map_err(|error| wrong("signing_secret", format!("{error}; {help}")))
}

fn fixed_headers(settings: &Settings) -> Result<HeaderMap, ConnectorError> {
    let mut headers = HeaderMap::new();
    for (name, value) in settings.text_map("headers") {
        let (name, value) = call_header(name, value).map_err(|error| wrong("headers", error.to_string()))?;
        headers.insert(name, value);
    }
    for (name, value) in settings.secret_map("secret_headers") {
        let (name, value) = secret_value(name, value.expose_secret())
            .and_then(|(name, value)| Ok((reserved(name)?, value)))
            .map_err(|error| wrong("secret_headers", error.to_string()))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Checks a header whose value is no secret.
pub(crate) fn call_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let (name, value) = own_header(name, value)?;
    if matches!(name.as_str(), "authorization" | "cookie") {
        let problem = "is a secret: use `token`, `username` and `password`, or `secret_headers`";
        return Err(HeaderError { name: name.to_string(), problem });
    }
    Ok((reserved(name)?, value))
}

/// Refuses the names that carry the id and the signature of each call.
fn reserved(name: HeaderName) -> Result<HeaderName, HeaderError> {
    if [HEADER_ID, HEADER_TIMESTAMP, HEADER_SIGNATURE, "traceparent"].contains(&name.as_str()) {
        return Err(HeaderError {
            name: name.to_string(),
            problem: "is set by the hub and cannot be set here",
        });
    }
    Ok(name)
}

fn success(settings: &Settings) -> Result<Vec<u16>, ConnectorError> {
    let parse = |text: &String| text.parse().ok().filter(|status| (300..600).contains(status));
    let message = "takes statuses from 300 to 599; 2xx is success anyway";
    settings
        .text_list("success")
        .iter()
        .map(|text| parse(text).ok_or_else(|| wrong("success", message)))
        .collect()
}

fn positive(settings: &Settings, field: &str, default: Duration) -> Result<Duration, ConnectorError> {
    match settings.duration(field) {
        Some(Duration::ZERO) => Err(wrong(field, format!("`{field}` must be longer than nothing"))),
        Some(duration) if duration > TIMEOUT_MAX => {
            Err(wrong(field, format!("`{field}` must be at most 10m")))
        }
        Some(duration) => Ok(duration),
        None => Ok(default),
    }
}

/// Knows every secret of the connection, also in the form in which it travels.
fn redactor(settings: &Settings, base: &BaseUrl) -> Redactor {
    let named =
        ["password", "token", "api_key"].into_iter().filter_map(|name| settings.secret(name).cloned());
    let signing = settings.secret("signing_secret").into_iter().flat_map(|secrets| {
        let secrets = secrets.expose_secret().split_ascii_whitespace();
        secrets.map(|secret| SecretString::from(secret.strip_prefix("whsec_").unwrap_or(secret)))
    });
    let headers = settings.secret_map("secret_headers").iter().map(|(_, secret)| secret.clone());
    let address = base.secrets(settings.inserted("base_url"));
    let all: Vec<_> =
        named.chain(signing).chain(headers).chain(Auth::basic_pair(settings)).chain(address).collect();
    Redactor::new(&all)
}
