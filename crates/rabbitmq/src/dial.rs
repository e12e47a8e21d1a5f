//! Connecting: TLS, login, virtual host, and why it did not come about.

use std::{fmt, io, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::{
    Connection, ConnectionProperties, ErrorKind,
    auth::AuthProvider,
    runtime::default_runtime,
    tcp::{AMQPUriTcpExt, OwnedIdentity, OwnedTLSConfig},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::{
    RabbitOptions,
    options::{Login, Tls},
};

/// More than a broker says of itself.
const GREETING_MAX: u32 = 1 << 16;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// For people, with the server.
    pub(crate) text: String,
}

/// What somebody would have to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    Unreachable,
    Login,
    VirtualHost,
    Tls,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// The SASL mechanism by which the broker believes the certificate of the client.
struct External;

impl AuthProvider for External {}

/// Connects to the first of the servers that takes us; `purpose` is shown in the broker's list of connections.
pub(crate) async fn dial(options: &RabbitOptions, purpose: &str) -> Result<Connection, Refusal> {
    let tls = match &options.tls {
        Some(tls) => certificates(tls).await?,
        None => OwnedTLSConfig::default(),
    };
    let mut refusal = None;
    for (host, port) in &options.hosts {
        let server = format!("{host}:{port}");
        let limit = options.connect_timeout;
        // The whole takes a little more than its parts, so that a part can say what went wrong.
        let connecting = connect(options, host, *port, tls.clone(), purpose);
        match timeout(limit + Duration::from_secs(1), connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => refusal.get_or_insert(refused(&server, &error, options)),
            Err(_) => refusal.get_or_insert(Refusal {
                kind: RefusalKind::Unreachable,
                text: format!("{server} did not answer within {limit:?}"),
            }),
        };
    }
    Err(refusal.unwrap_or(Refusal { kind: RefusalKind::Unreachable, text: "no server is named".to_owned() }))
}

/// The version of the broker, major and minor; none if it does not tell. The client library keeps what the broker says of itself to
/// itself, so it is asked for by hand, on a connection that ends with its greeting.
pub(crate) async fn version(options: &RabbitOptions) -> Result<Option<(u32, u32)>, Refusal> {
    let tls = match &options.tls {
        Some(tls) => certificates(tls).await?,
        None => OwnedTLSConfig::default(),
    };
    let mut refusal = None;
    for (host, port) in &options.hosts {
        match timeout(options.connect_timeout, greeting(options, host, *port, tls.clone())).await {
            Ok(Ok(greeting)) => return Ok(version_in(&greeting)),
            Ok(Err(error)) => {
                refusal.get_or_insert(refused(&format!("{host}:{port}"), &error.into(), options))
            }
            Err(_) => refusal.get_or_insert(Refusal {
                kind: RefusalKind::Unreachable,
                text: format!("{host}:{port} did not answer within {:?}", options.connect_timeout),
            }),
        };
    }
    Err(refusal.unwrap_or(Refusal { kind: RefusalKind::Unreachable, text: "no server is named".to_owned() }))
}

/// The first frame of the broker.
async fn greeting(
    options: &RabbitOptions,
    host: &str,
    port: u16,
    tls: OwnedTLSConfig,
) -> io::Result<Vec<u8>> {
    let runtime = default_runtime().map_err(io::Error::other)?;
    let uri = AMQPUri {
        scheme: if options.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority { host: host.to_owned(), port, ..AMQPAuthority::default() },
        ..AMQPUri::default()
    };
    let mut stream = AMQPUriTcpExt::connect_with_config_async(&uri, tls.as_ref(), &runtime).await?;
    stream.write_all(b"AMQP\0\0\x09\x01").await?;
    stream.flush().await?;
    // Type, channel, length of the payload.
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    if length > GREETING_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers is no AMQP"));
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

/// In the table of the broker's properties: the name as a short string, the type, the value as a long string.
fn version_in(greeting: &[u8]) -> Option<(u32, u32)> {
    const NAME: &[u8] = b"\x07versionS";
    let at = greeting.windows(NAME.len()).position(|window| window == NAME)?;
    let (length, value) = greeting.get(at + NAME.len()..)?.split_first_chunk::<4>()?;
    let value = value.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let mut numbers = std::str::from_utf8(value).ok()?.split('.').map(|number| number.parse().ok());
    numbers.next()?.zip(numbers.next()?)
}

async fn connect(
    options: &RabbitOptions,
    host: &str,
    port: u16,
    tls: OwnedTLSConfig,
    purpose: &str,
) -> lapin::Result<Connection> {
    let mut properties = ConnectionProperties::default()
        .with_connection_name(format!("crossdock {purpose}").into())
        .with_client_property("product".into(), "crossdock".into());
    let userinfo = match &options.login {
        Login::Plain { username, password } => {
            AMQPUserInfo { username: username.clone(), password: password.expose_secret().to_owned() }
        }
        Login::External => {
            properties = properties.with_auth_provider(External);
            AMQPUserInfo { username: String::new(), password: String::new() }
        }
    };
    let heartbeat = u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
    let uri = AMQPUri {
        scheme: if options.tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority { userinfo, host: host.to_owned(), port },
        vhost: options.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(heartbeat), ..AMQPQueryString::default() },
    };
    let limit = options.connect_timeout;
    let reach = async move |uri: AMQPUri, runtime| {
        let reaching = AMQPUriTcpExt::connect_with_config_async(&uri, tls.as_ref(), &runtime);
        // A thread waits for this one: without a limit a server that says nothing would keep it for ever.
        match timeout(limit, reaching).await {
            Ok(stream) => Ok(stream?),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    };
    Connection::connector(uri, default_runtime()?, reach, properties).await
}

/// The certificates as the client wants them. Read anew for each connection: they are renewed under way.
async fn certificates(tls: &Tls) -> Result<OwnedTLSConfig, Refusal> {
    let ca = match &tls.ca {
        Some(ca) => Some(pem("tls.ca", ca).await?),
        None => None,
    };
    let identity = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: pem("tls.certificate", certificate).await?.into_bytes(),
            key: pem("tls.key", key.expose_secret()).await?.into_bytes(),
        }),
        _ => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain: ca })
}

/// A text in PEM, or what the file of that name holds.
async fn pem(option: &str, value: &str) -> Result<String, Refusal> {
    if value.contains("-----BEGIN") {
        return Ok(value.to_owned());
    }
    let read = tokio::fs::read_to_string(value).await;
    read.map_err(|error| Refusal {
        kind: RefusalKind::Tls,
        text: format!("the file of `{option}` cannot be read: {error}"),
    })
}

/// Why the broker did not take us. The codes are those of AMQP 0-9-1 (<https://www.rabbitmq.com/amqp-0-9-1-reference.html>).
fn refused(server: &str, error: &lapin::Error, options: &RabbitOptions) -> Refusal {
    let kind = match error.kind() {
        ErrorKind::ProtocolError(refused) => match refused.get_id() {
            // access-refused: before the virtual host is opened that is the login.
            403 => RefusalKind::Login,
            // not-allowed: the virtual host is not there, or not for this login.
            530 => RefusalKind::VirtualHost,
            _ => RefusalKind::Unreachable,
        },
        // rustls tells what it does not like as invalid data.
        ErrorKind::IOError(broken)
            if options.tls.is_some() && broken.kind() == io::ErrorKind::InvalidData =>
        {
            RefusalKind::Tls
        }
        ErrorKind::AuthProviderError(_) => RefusalKind::Login,
        _ if options.tls.is_some() && error.to_string().contains("certificate") => RefusalKind::Tls,
        _ => RefusalKind::Unreachable,
    };
    Refusal { kind, text: format!("{server}: {}", crossdock_core::chain(error)) }
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn the_version_is_read_from_the_greeting() {
        let greeting =
            b"\0\x0a\0\x0a\0\x09\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8\x08platform";
        assert_eq!(version_in(greeting), Some((3, 10)));
        assert_eq!(version_in(b"\x07versionS\0\0\0\x0a4.1.0-rc.1"), Some((4, 1)));
        for broken in [b"\x07versionS\0\0".as_slice(), b"\x07versionS\0\0\0\xff3.1", b""] {
            assert_eq!(version_in(broken), None);
        }
    }
}
