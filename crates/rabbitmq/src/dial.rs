//! Connecting: TLS, login, virtual host, and why it did not come about.

use std::{fmt, io, time::Duration};

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
        ErrorKind::IOError(broken) if options.tls.is_some() && broken.kind() == io::ErrorKind::InvalidData => {
            RefusalKind::Tls
        }
        ErrorKind::AuthProviderError(_) => RefusalKind::Login,
        _ if options.tls.is_some() && error.to_string().contains("certificate") => RefusalKind::Tls,
        _ => RefusalKind::Unreachable,
    };
    Refusal { kind, text: format!("{server}: {}", crossdock_core::chain(error)) }
}
