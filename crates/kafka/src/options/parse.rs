//! Reading an address and options.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::{
    KafkaOptions, Mechanism, SESSION_TIMEOUT_OF_INSTANCE, Sasl, Tls, names,
    security::{TokenEndpoint, secure},
};
use crate::client;

/// Something is wrong with the address or with an option. Holds no value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct OptionError {
    /// The option; none for the address.
    pub option: Option<String>,
    /// What is wrong, for people.
    pub problem: String,
    /// What to do.
    pub help: String,
}

impl OptionError {
    fn new(option: &str, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { option: Some(option.to_owned()), problem: problem.into(), help: help.into() }
    }

    fn address(problem: impl Into<String>) -> Self {
        let help = "write `kafka://HOST:PORT`, with commas between several servers".to_owned();
        Self { option: None, problem: problem.into(), help }
    }
}

/// What is collected of the login until all is read.
#[derive(Default)]
struct Login {
    mechanism: Option<Mechanism>,
    username: Option<String>,
    password: Option<String>,
    token_url: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    scope: Option<String>,
}

pub(super) fn parse<'o>(
    address: &str,
    options: impl IntoIterator<Item = (&'o str, &'o str)>,
) -> Result<KafkaOptions, Vec<OptionError>> {
    let mut problems = Vec::new();
    let mut login = Login::default();
    let mut parsed = KafkaOptions::new("");
    match servers(address, &mut login) {
        Ok(servers) => parsed.servers = servers,
        Err(problem) => problems.push(problem),
    }
    let mut has_session_timeout = false;
    for (name, value) in options {
        has_session_timeout |= name == "session_timeout";
        if let Err(problem) = set(&mut parsed, &mut login, name, value) {
            problems.push(problem);
        }
    }
    if parsed.instance.is_some() && !has_session_timeout {
        parsed.session_timeout = SESSION_TIMEOUT_OF_INSTANCE;
    }
    match login.finish() {
        Ok(sasl) => parsed.sasl = sasl,
        Err(problem) => problems.push(problem),
    }
    if let Some(tls) = &parsed.tls
        && tls.certificate.is_some() != tls.key.is_some()
    {
        let (there, missing) =
            if tls.key.is_some() { ("tls.key", "tls.certificate") } else { ("tls.certificate", "tls.key") };
        problems.push(OptionError::new(
            there,
            format!("`{there}` needs `{missing}`"),
            format!("add `{missing}`"),
        ));
    }
    if problems.is_empty() {
        problems.extend(refused_by_librdkafka(&parsed));
    }
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

/// The hosts of an address; user and password go to the login.
fn servers(address: &str, login: &mut Login) -> Result<String, OptionError> {
    let rest = address
        .strip_prefix("kafka://")
        .ok_or_else(|| OptionError::address("the address does not begin with `kafka://`"))?;
    let hosts = match rest.rsplit_once('@') {
        Some((credentials, hosts)) => {
            // Only the `url` crate's view of user and password is needed: hosts may be several.
            let url = Url::parse(&format!("kafka://{credentials}@host")).map_err(|_| {
                OptionError::address("the user or the password of the address cannot be read")
            })?;
            login.username = Some(decoded(url.username()));
            login.password = url.password().map(decoded);
            hosts
        }
        None => rest,
    };
    let hosts = hosts.trim_end_matches('/');
    let list: Vec<String> = hosts.split(',').map(server).collect::<Result<_, _>>()?;
    Ok(list.join(","))
}

fn server(host: &str) -> Result<String, OptionError> {
    let host = host.trim();
    let url = Url::parse(&format!("kafka://{host}"))
        .map_err(|_| OptionError::address("the address has a server that is no `HOST:PORT`"))?;
    if url.host_str().is_none_or(str::is_empty) || !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(OptionError::address("the address has a server that is no `HOST:PORT`"));
    }
    Ok(if url.port().is_some() { host.to_owned() } else { format!("{host}:9092") })
}

fn decoded(text: &str) -> String {
    // A form's pair decodes percents; a plus is not a space in an address, so it is kept from being read as one.
    let pair = format!("v={}", text.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn set(parsed: &mut KafkaOptions, login: &mut Login, name: &str, value: &str) -> Result<(), OptionError> {
    let text = || Some(value.to_owned());
    let tls = |parsed: &mut KafkaOptions| parsed.tls.take().unwrap_or_default();
    match name {
        "partitions" => parsed.partitions = number(name, value, 1, 10_000)?,
        "replication" => parsed.replication = Some(number(name, value, 1, 127)?),
        "retention" => parsed.retention = Some(duration(name, value)?),
        "topic_prefix" => parsed.topic_prefix = prefix(name, value)?,
        "group_prefix" => parsed.group_prefix = prefix(name, value)?,
        "publish_timeout" => parsed.publish_timeout = duration(name, value)?,
        "session_timeout" => parsed.session_timeout = duration(name, value)?,
        "instance" => parsed.instance = text(),
        "tls" => match value {
            "true" => parsed.tls = Some(tls(parsed)),
            "false" => parsed.tls = None,
            _ => {
                return Err(OptionError::new(name, "`tls` is neither true nor false", "write `tls: true`"));
            }
        },
        "tls.ca" => parsed.tls = Some(Tls { ca: text(), ..tls(parsed) }),
        "tls.certificate" => parsed.tls = Some(Tls { certificate: text(), ..tls(parsed) }),
        "tls.key" => parsed.tls = Some(Tls { key: Some(secret(value)), ..tls(parsed) }),
        "tls.key_password" => parsed.tls = Some(Tls { key_password: Some(secret(value)), ..tls(parsed) }),
        "sasl.mechanism" => login.mechanism = Some(mechanism(value)?),
        "sasl.username" => login.username = text(),
        "sasl.password" => login.password = text(),
        "sasl.token_url" => login.token_url = text(),
        "sasl.client_id" => login.client_id = text(),
        "sasl.client_secret" => login.client_secret = text(),
        "sasl.scope" => login.scope = text(),
        _ if names::PASSED.contains(&name) => {
            parsed.passed.insert(name.to_owned(), value.to_owned());
        }
        _ => return Err(unknown(name)),
    }
    Ok(())
}

fn unknown(name: &str) -> OptionError {
    if let Some(why) = names::reserved(name) {
        return OptionError::new(name, format!("`{name}` cannot be set: {why}"), "remove it");
    }
    let help = match names::nearest(name) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {} and options of librdkafka", names::OWN.join(", ")),
    };
    OptionError::new(name, format!("there is no option `{name}` of Kafka"), help)
}

impl Login {
    fn finish(self) -> Result<Option<Sasl>, OptionError> {
        let Some(mechanism) = self.mechanism else {
            return match self.username.is_some() || self.password.is_some() || self.token_url.is_some() {
                true => Err(OptionError::new(
                    "sasl.mechanism",
                    "a login needs `sasl.mechanism`",
                    "write the mechanism of your broker: plain, scram-sha-256, scram-sha-512 or oauthbearer",
                )),
                false => Ok(None),
            };
        };
        let needed = |name: &str, value: Option<String>| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| {
                OptionError::new(name, format!("this login needs `{name}`"), format!("add `{name}`"))
            })
        };
        if mechanism == Mechanism::OauthBearer {
            let token = TokenEndpoint {
                url: needed("sasl.token_url", self.token_url)?,
                client_id: needed("sasl.client_id", self.client_id)?,
                client_secret: secret(&needed("sasl.client_secret", self.client_secret)?),
                scope: self.scope,
            };
            let username = token.client_id.clone();
            return Ok(Some(Sasl { mechanism, username, password: secret(""), token: Some(token) }));
        }
        let username = needed("sasl.username", self.username)?;
        let password = secret(&needed("sasl.password", self.password)?);
        Ok(Some(Sasl { mechanism, username, password, token: None }))
    }
}

fn mechanism(value: &str) -> Result<Mechanism, OptionError> {
    let found = Mechanism::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.map(|(_, mechanism)| *mechanism).ok_or_else(|| {
        let help = "write plain, scram-sha-256, scram-sha-512 or oauthbearer";
        OptionError::new("sasl.mechanism", "this mechanism is not known", help)
    })
}

fn number<N: TryFrom<u64>>(name: &str, value: &str, min: u64, max: u64) -> Result<N, OptionError> {
    let parsed = value.parse().ok().filter(|number| (min..=max).contains(number));
    parsed.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
        OptionError::new(
            name,
            format!("`{name}` is no number from {min} to {max}"),
            format!("write a number from {min} to {max}"),
        )
    })
}

fn duration(name: &str, value: &str) -> Result<Duration, OptionError> {
    let wrong = || {
        OptionError::new(name, format!("`{name}` is no duration"), "write for example `30s`, `12h` or `7d`")
    };
    let digits = value.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let milliseconds = number.checked_mul(milliseconds).filter(|total| *total > 0).ok_or_else(wrong)?;
    Ok(Duration::from_millis(milliseconds))
}

fn prefix(name: &str, value: &str) -> Result<String, OptionError> {
    let fits = value.len() <= 64
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if fits {
        return Ok(value.to_owned());
    }
    let problem = format!("`{name}` has characters that a name in Kafka cannot have");
    Err(OptionError::new(name, problem, "use at most 64 of a-z A-Z 0-9 . _ -"))
}

fn secret(value: &str) -> SecretString {
    SecretString::from(value.to_owned())
}

/// Values that librdkafka does not take. Its message may quote a value, so only its name is told for what is secret.
fn refused_by_librdkafka(options: &KafkaOptions) -> Vec<OptionError> {
    let mut problems = Vec::new();
    for (name, value) in &options.passed {
        let mut config = rdkafka::ClientConfig::new();
        config.set(name, value);
        if let Err(rdkafka::error::KafkaError::ClientConfig(_, why, _, _)) = config.create_native_config() {
            problems.push(OptionError::new(name, format!("`{name}` has a value that it cannot have"), why));
        }
    }
    if problems.is_empty() {
        let mut config = client::base(options);
        secure(&mut config, options.tls.as_ref(), options.sasl.as_ref());
        if let Err(rdkafka::error::KafkaError::ClientConfig(_, _, key, _)) = config.create_native_config() {
            problems.push(OptionError {
                option: None,
                problem: format!("librdkafka does not take `{key}`"),
                help: "look at `tls` and `sasl`".to_owned(),
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(options: &[(&str, &str)]) -> Vec<String> {
        let errors =
            KafkaOptions::parse("kafka://h:1", options.iter().copied()).expect_err("something is wrong");
        errors.into_iter().map(|error| format!("{}; {}", error.problem, error.help)).collect()
    }

    #[test]
    fn an_address_names_one_server_or_several() {
        let options = KafkaOptions::parse("kafka://h1:9093,h2,[::1]:5", []).expect("an address");
        assert_eq!(options.servers, "h1:9093,h2:9092,[::1]:5");
        for wrong in ["amqp://h", "kafka://", "kafka://h1,,h2", "kafka://h:port", "kafka://h/path"] {
            assert!(KafkaOptions::parse(wrong, []).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_name_names_the_nearest_and_ours_says_why() {
        assert_eq!(
            wrong(&[("liner.ms", "5")]),
            ["there is no option `liner.ms` of Kafka; did you mean `linger.ms`?"]
        );
        assert_eq!(
            wrong(&[("acks", "1")]),
            [
                "`acks` cannot be set: an event counts as published only when all replicas in sync have it; remove it"
            ]
        );
        assert!(
            wrong(&[("linger.ms", "soon")])[0].starts_with("`linger.ms` has a value that it cannot have")
        );
        assert_eq!(wrong(&[("enable.auto.commit", "true"), ("partitions", "0")]).len(), 2);
    }

    #[test]
    fn a_worker_that_is_expected_back_is_waited_for_longer() {
        let session = |options: &[(&str, &str)]| {
            let options = KafkaOptions::parse("kafka://h", options.iter().copied()).expect("options");
            options.session_timeout.as_secs()
        };
        assert_eq!((session(&[]), session(&[("instance", "a")])), (10, 45));
        assert_eq!(session(&[("session_timeout", "20s"), ("instance", "a")]), 20);
    }

    #[test]
    fn a_login_is_whole_and_never_shown() {
        assert!(wrong(&[("sasl.username", "u")])[0].starts_with("a login needs `sasl.mechanism`"));
        assert!(wrong(&[("sasl.mechanism", "oauthbearer")])[0].contains("sasl.token_url"));
        let options = [("sasl.mechanism", "SCRAM-SHA-512"), ("tls", "true")];
        let options = KafkaOptions::parse("kafka://user:se%2Bcr+et@h:1", options).expect("a login");
        let sasl = options.sasl.as_ref().expect("a login");
        assert_eq!(secrecy::ExposeSecret::expose_secret(&sasl.password), "se+cr+et");
        assert!(!format!("{options:?}").contains("cr+et"), "{options:?}");
    }

    #[test]
    fn every_name_that_is_passed_on_is_known_to_librdkafka() {
        for name in names::PASSED {
            let mut config = rdkafka::ClientConfig::new();
            config.set(name, "surely-not-a-value");
            if let Err(rdkafka::error::KafkaError::ClientConfig(code, why, _, _)) =
                config.create_native_config()
            {
                assert_ne!(format!("{code:?}"), "RD_KAFKA_CONF_UNKNOWN", "{name}: {why}");
            }
        }
    }
}
