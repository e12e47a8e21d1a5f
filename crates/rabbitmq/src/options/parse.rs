//! Reading an address and options.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use super::{Login, Management, RabbitOptions, Tls};

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
        let help = "write `amqp://USER@HOST:PORT/VHOST`, with commas between several hosts".to_owned();
        Self { option: None, problem: problem.into(), help }
    }
}

const NAMES: [&str; 16] = [
    "partitions",
    "prefix",
    "prefetch",
    "heartbeat",
    "connect_timeout",
    "publish_timeout",
    "lease_ttl",
    "username",
    "password",
    "auth",
    "tls",
    "tls.ca",
    "tls.certificate",
    "tls.key",
    "management",
    "management.password",
];

/// What an address says.
#[derive(Default)]
struct Address {
    hosts: Vec<(String, u16)>,
    vhost: String,
    username: Option<String>,
    password: Option<SecretString>,
    tls: bool,
}

/// What is collected until all is read.
#[derive(Default)]
struct Collected {
    username: Option<String>,
    password: Option<SecretString>,
    external: Option<bool>,
    tls: Option<Tls>,
    tls_off: bool,
    management: Option<Url>,
    management_password: Option<SecretString>,
}

pub(super) fn parse<'o>(
    address: &str,
    options: impl IntoIterator<Item = (&'o str, &'o str)>,
) -> Result<RabbitOptions, Vec<OptionError>> {
    let mut problems = Vec::new();
    let address = read_address(address).unwrap_or_else(|problem| {
        problems.push(problem);
        Address::default()
    });
    let mut parsed = RabbitOptions {
        hosts: address.hosts,
        vhost: address.vhost,
        login: Login::External,
        tls: None,
        partitions: 8,
        prefix: "crossdock.".to_owned(),
        prefetch: 1_000,
        heartbeat: Duration::from_secs(10),
        publish_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        lease_ttl: Duration::from_secs(10),
        event_bytes_max: 1 << 20,
        management: None,
    };
    let mut collected = Collected {
        username: address.username,
        password: address.password,
        tls: address.tls.then(Tls::default),
        ..Collected::default()
    };
    for (name, value) in options {
        if let Err(problem) = set(&mut parsed, &mut collected, name, value) {
            problems.push(problem);
        }
    }
    if collected.tls_off && address.tls {
        problems.push(OptionError::new(
            "tls",
            "`tls: false` and `amqps` contradict each other",
            "remove one",
        ));
    }
    problems.extend(collected.finish(&mut parsed));
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

/// The parts of an address. The hosts may be several, which no reader of URLs takes.
fn read_address(address: &str) -> Result<Address, OptionError> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", ""));
    let (tls, port) = match scheme {
        "amqp" => (false, 5672),
        "amqps" => (true, 5671),
        _ => {
            return Err(OptionError::address(
                "the address begins neither with `amqp://` nor with `amqps://`",
            ));
        }
    };
    if rest.contains(['?', '#']) {
        return Err(OptionError::address("the address has a query; options stand beside it"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some((username, password)) => (Some(decoded(username)?), Some(decoded(password)?)),
        None => (None, None),
    };
    let hosts = hosts.split(',').map(|host| read_host(host, port)).collect::<Result<_, _>>()?;
    // RabbitMQ's own virtual host is called `/`; one without a name can hardly be made, so nothing means that one.
    let vhost = Some(decoded(path)?).filter(|vhost| !vhost.is_empty()).unwrap_or_else(|| "/".to_owned());
    if vhost.len() > 255 {
        return Err(OptionError::address("the name of the virtual host is longer than 255 bytes"));
    }
    Ok(Address {
        hosts,
        vhost,
        username: username.filter(|username| !username.is_empty()),
        password: password.filter(|password| !password.is_empty()).map(SecretString::from),
        tls,
    })
}

fn read_host(host: &str, port: u16) -> Result<(String, u16), OptionError> {
    let wrong = || OptionError::address("the address has a server that is no `HOST:PORT`");
    // `http` for its checks of hosts: other schemes take any text.
    let url = Url::parse(&format!("http://{}", host.trim())).map_err(|_| wrong())?;
    let name = url.host_str().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
    // A port that is the scheme's own is not told.
    let port = url.port().unwrap_or(if host.trim().ends_with(":80") { 80 } else { port });
    Ok((name.trim_matches(['[', ']']).to_owned(), port))
}

fn decoded(text: &str) -> Result<String, OptionError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| OptionError::address("the address has an escape that is no text"))
}

fn set(
    parsed: &mut RabbitOptions,
    collected: &mut Collected,
    name: &str,
    value: &str,
) -> Result<(), OptionError> {
    let text = || Some(value.to_owned());
    let tls = |collected: &mut Collected| collected.tls.take().unwrap_or_default();
    match name {
        "partitions" => parsed.partitions = number(name, value, 1, 1_000)?,
        "prefix" => parsed.prefix = prefix(name, value)?,
        "prefetch" => parsed.prefetch = number(name, value, 1, 60_000)?,
        "heartbeat" => parsed.heartbeat = duration(name, value, 1, 600)?,
        "connect_timeout" => parsed.connect_timeout = duration(name, value, 1, 600)?,
        "publish_timeout" => parsed.publish_timeout = duration(name, value, 1, 600)?,
        "lease_ttl" => parsed.lease_ttl = duration(name, value, 2, 600)?,
        "username" => collected.username = text(),
        "password" => collected.password = Some(SecretString::from(value)),
        "auth" => collected.external = Some(one_of(name, value, "external", "plain")?),
        "tls" => match one_of(name, value, "true", "false")? {
            true => collected.tls = Some(tls(collected)),
            false => (collected.tls, collected.tls_off) = (None, true),
        },
        "tls.ca" => collected.tls = Some(Tls { ca: text(), ..tls(collected) }),
        "tls.certificate" => collected.tls = Some(Tls { certificate: text(), ..tls(collected) }),
        "tls.key" => collected.tls = Some(Tls { key: Some(SecretString::from(value)), ..tls(collected) }),
        "management" => collected.management = Some(management(name, value)?),
        "management.password" => collected.management_password = Some(SecretString::from(value)),
        _ => return Err(unknown(name)),
    }
    Ok(())
}

impl Collected {
    /// What belongs together.
    fn finish(mut self, parsed: &mut RabbitOptions) -> Vec<OptionError> {
        let mut problems = Vec::new();
        let needs = |there: &str, missing: &str| {
            OptionError::new(there, format!("`{there}` needs `{missing}`"), format!("add `{missing}`"))
        };
        let tls = self.tls.clone().unwrap_or_default();
        match (&tls.certificate, &tls.key) {
            (Some(_), None) => problems.push(needs("tls.certificate", "tls.key")),
            (None, Some(_)) => problems.push(needs("tls.key", "tls.certificate")),
            _ => {}
        }
        match self.external {
            Some(true) if tls.certificate.is_none() => problems.push(needs("auth", "tls.certificate")),
            Some(true) => parsed.login = Login::External,
            _ => {
                let guest = || "guest".to_owned();
                let (username, password) = (self.username.take(), self.password.take());
                if username.is_some() && password.is_none() {
                    problems.push(OptionError::new("password", "a login needs a password", "add `password`"));
                }
                parsed.login = Login::Plain {
                    // What RabbitMQ comes with, for connections from its own machine.
                    username: username.unwrap_or_else(guest),
                    password: password.unwrap_or_else(|| guest().into()),
                };
            }
        }
        parsed.tls = self.tls;
        match self.management {
            Some(url) => parsed.management = Some(management_login(url, self.management_password)),
            None if self.management_password.is_some() => {
                problems.push(needs("management.password", "management"));
            }
            None => {}
        }
        problems
    }
}

fn management(name: &str, value: &str) -> Result<Url, OptionError> {
    let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| {
        OptionError::new(name, "`management` is no URL", "write for example `http://user@host:15672`")
    })
}

fn management_login(mut url: Url, password: Option<SecretString>) -> Management {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let password = password.or_else(|| url.password().map(|password| plain(password).into()));
    let username = Some(plain(url.username())).filter(|username| !username.is_empty());
    // Neither can fail for a URL with a host, which every one of http has.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    Management { url, login: username.zip(password) }
}

fn unknown(name: &str) -> OptionError {
    let scored = NAMES.iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known));
    let nearest = scored.filter(|(score, _)| *score > 0.6).max_by(|a, b| a.0.total_cmp(&b.0));
    let help = match nearest {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => format!("known are {}", NAMES.join(", ")),
    };
    OptionError::new(name, format!("there is no option `{name}` of RabbitMQ"), help)
}

fn one_of(name: &str, value: &str, yes: &str, no: &str) -> Result<bool, OptionError> {
    match value {
        _ if value == yes => Ok(true),
        _ if value == no => Ok(false),
        _ => {
            let problem = format!("`{name}` is neither `{yes}` nor `{no}`");
            Err(OptionError::new(name, problem, format!("write `{name}: {yes}` or `{name}: {no}`")))
        }
    }
}

fn number<N: TryFrom<u64>>(name: &str, value: &str, min: u64, max: u64) -> Result<N, OptionError> {
    let parsed = value.parse().ok().filter(|number| (min..=max).contains(number));
    parsed.and_then(|number| N::try_from(number).ok()).ok_or_else(|| {
        let problem = format!("`{name}` is no number from {min} to {max}");
        OptionError::new(name, problem, format!("write a number from {min} to {max}"))
    })
}

fn duration(name: &str, value: &str, min: u64, max: u64) -> Result<Duration, OptionError> {
    let wrong = || {
        let problem = format!("`{name}` is no duration from {min} s to {max} s");
        OptionError::new(name, problem, "write for example `10s`, `500ms` or `2m`")
    };
    let digits = value.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit.trim() {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    let allowed = milliseconds.filter(|total| (min * 1_000..=max * 1_000).contains(total));
    allowed.map(Duration::from_millis).ok_or_else(wrong)
}

fn prefix(name: &str, value: &str) -> Result<String, OptionError> {
    let fits = (1..=64).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        // The broker keeps those names for itself.
        && !value.starts_with("amq.");
    if fits {
        return Ok(value.to_owned());
    }
    let problem = format!("`{name}` has characters that are not allowed");
    Err(OptionError::new(name, problem, "use 1 to 64 of a-z A-Z 0-9 . _ - and do not begin with `amq.`"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn wrong(address: &str, options: &[(&str, &str)]) -> Vec<String> {
        let errors = parse(address, options.iter().copied()).expect_err("something is wrong");
        errors.into_iter().map(|error| format!("{}; {}", error.problem, error.help)).collect()
    }

    #[test]
    fn an_address_names_one_server_or_several_and_a_virtual_host() {
        let options = parse("amqp://u%40x:p%2Fw@h1:1,h2,[::1]:80/my%2Fhost", []).expect("an address");
        let hosts = [("h1".to_owned(), 1), ("h2".to_owned(), 5672), ("::1".to_owned(), 80)];
        assert_eq!((options.hosts.as_slice(), options.vhost.as_str()), (hosts.as_slice(), "my/host"));
        let Login::Plain { username, password } = options.login else { panic!("a plain login") };
        assert_eq!((username.as_str(), password.expose_secret()), ("u@x", "p/w"));
        for address in ["amqp://h", "amqp://h/", "amqp://h/%2f"] {
            assert_eq!(parse(address, []).expect("an address").vhost, "/");
        }
        assert_eq!(parse("amqps://h", []).expect("an address").hosts[0].1, 5671);
        for bad in ["kafka://h", "amqp://", "amqp://a,,b", "amqp://h:port", "amqp://h/v?heartbeat=1"] {
            assert!(parse(bad, []).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_name_names_the_nearest() {
        assert_eq!(
            wrong("amqp://h", &[("prefech", "5")]),
            ["there is no option `prefech` of RabbitMQ; did you mean `prefetch`?"]
        );
        assert_eq!(wrong("amqp://h", &[("partitions", "0"), ("lease_ttl", "1s"), ("auth", "no")]).len(), 3);
        assert_eq!(
            wrong("amqp://h", &[("tls.key", "k")]),
            ["`tls.key` needs `tls.certificate`; add `tls.certificate`"]
        );
        assert_eq!(
            wrong("amqp://h", &[("auth", "external")]),
            ["`auth` needs `tls.certificate`; add `tls.certificate`"]
        );
        assert_eq!(wrong("amqp://u@h", &[]), ["a login needs a password; add `password`"]);
    }

    #[test]
    fn no_secret_is_shown() {
        let options =
            [("management", "http://m:hush@h:15672"), ("tls.certificate", "c"), ("tls.key", "hush")];
        let options = parse("amqp://u:hush@h", options).expect("options");
        assert!(!format!("{options:?}").contains("hush"), "{options:?}");
        let management = options.management.expect("it was given");
        assert_eq!(management.login.expect("a login").1.expose_secret(), "hush");
    }
}
