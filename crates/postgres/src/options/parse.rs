//! Reading an address and options.

use std::{path::PathBuf, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::PostgresOptions;

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
        let help = "write `postgres://USER@HOST:PORT/DATABASE`".to_owned();
        Self { option: None, problem: problem.into(), help }
    }
}

/// Our own names.
const OWN: [&str; 9] = [
    "pool",
    "admin_pool",
    "call_timeout",
    "application_name",
    "sslmode",
    "tls.ca",
    "tls.certificate",
    "tls.key",
    "source",
];

/// What may stand behind the `?` of an address, as libpq names it, and what it sets here.
const IN_ADDRESS: [(&str, &str); 5] = [
    ("sslmode", "sslmode"),
    ("sslrootcert", "tls.ca"),
    ("sslcert", "tls.certificate"),
    ("sslkey", "tls.key"),
    ("application_name", "application_name"),
];

const SSL_MODES: &str = "one of disable, prefer, require, verify-ca, verify-full";

pub(super) fn parse<'o>(
    address: &str,
    options: impl IntoIterator<Item = (&'o str, &'o str)>,
) -> Result<PostgresOptions, Vec<OptionError>> {
    let mut problems = Vec::new();
    let (connect, in_address) = match server(address) {
        Ok(read) => read,
        Err(problem) => {
            problems.push(problem);
            (PgConnectOptions::new_without_pgpass(), Vec::new())
        }
    };
    let mut parsed = PostgresOptions::new(connect);
    let mut given: Vec<(&str, &str)> = Vec::new();
    given.extend(in_address.iter().map(|(name, value)| (*name, value.as_str())));
    for (name, value) in options {
        given.push((name, value));
    }
    problems.extend(given.iter().filter_map(|(name, value)| set(&mut parsed, name, value).err()));
    problems.extend(tls(&mut parsed, &given));
    if problems.is_empty() { Ok(parsed) } else { Err(problems) }
}

/// What stands in an address: the server, and options by our names.
type Address = (PgConnectOptions, Vec<(&'static str, String)>);

fn server(address: &str) -> Result<Address, OptionError> {
    let scheme = ["postgres://", "postgresql://"].into_iter().find(|scheme| address.starts_with(scheme));
    if scheme.is_none() {
        return Err(OptionError::address("the address does not begin with `postgres://`"));
    }
    let (place, query) = address.split_once('?').unwrap_or((address, ""));
    let mut options = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some((_, own)) = IN_ADDRESS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = IN_ADDRESS.iter().map(|(known, _)| *known).collect();
            let problem = format!("the address has an option `{name}` that is not known");
            return Err(OptionError {
                help: format!("known are {}", known.join(", ")),
                ..OptionError::address(problem)
            });
        };
        options.push((*own, decoded(value)?));
    }
    let connect: PgConnectOptions =
        place.parse().map_err(|_| OptionError::address("the address cannot be read"))?;
    let database = place.splitn(4, '/').nth(3).unwrap_or_default();
    if database.is_empty() {
        return Err(OptionError::address("the address names no database"));
    }
    if !place.contains('@') {
        return Err(OptionError::address("the address names no user"));
    }
    Ok((connect, options))
}

/// A value behind `?`, percents decoded.
fn decoded(value: &str) -> Result<String, OptionError> {
    let refused = || OptionError::address("an option of the address is not percent-encoded text");
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.bytes());
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(refused);
        let code = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(code).map_err(|_| refused())?);
    }
    String::from_utf8(bytes).map_err(|_| refused())
}

fn set(parsed: &mut PostgresOptions, name: &str, value: &str) -> Result<(), OptionError> {
    match name {
        "pool" => parsed.pool = number(name, value, 1, 1_000)?,
        "admin_pool" => parsed.admin_pool = number(name, value, 1, 1_000)?,
        "call_timeout" => parsed.call_timeout = duration(name, value)?,
        "application_name" => parsed.application_name = text(name, value, 48)?,
        "source" => parsed.source = text(name, value, 1024)?,
        "sslmode" => {
            // `allow` would be taken for `disable`.
            let mode: Option<PgSslMode> = value.parse().ok().filter(|_| value != "allow");
            let refused = || {
                OptionError::new(name, format!("`{name}` is not {SSL_MODES}"), "write `sslmode: verify-full`")
            };
            parsed.connect = parsed.connect.clone().ssl_mode(mode.ok_or_else(refused)?);
        }
        "tls.ca" | "tls.certificate" | "tls.key" => file_or_pem(parsed, name, value),
        _ => {
            let problem = format!("there is no option `{name}` of Postgres");
            return Err(OptionError::new(name, problem, known(name)));
        }
    }
    Ok(())
}

fn file_or_pem(parsed: &mut PostgresOptions, name: &str, value: &str) {
    let Some(name) = OWN.into_iter().find(|own| *own == name) else { return };
    let (connect, pem) = (parsed.connect.clone(), value.contains("-----BEGIN"));
    if !pem {
        parsed.files.push((name, PathBuf::from(value)));
    }
    parsed.connect = match (name, pem) {
        ("tls.ca", true) => connect.ssl_root_cert_from_pem(value.as_bytes().to_vec()),
        ("tls.ca", false) => connect.ssl_root_cert(value),
        ("tls.certificate", true) => connect.ssl_client_cert_from_pem(value),
        ("tls.certificate", false) => connect.ssl_client_cert(value),
        (_, true) => connect.ssl_client_key_from_pem(value),
        (_, false) => connect.ssl_client_key(value),
    };
}

/// What options of TLS mean together. An authority that nobody asks would be false safety: with one the server's certificate
/// is looked at.
fn tls(parsed: &mut PostgresOptions, given: &[(&str, &str)]) -> Vec<OptionError> {
    let is_given = |name: &str| given.iter().any(|(given, _)| *given == name);
    let mut problems = Vec::new();
    if is_given("tls.ca") && !is_given("sslmode") {
        parsed.connect = parsed.connect.clone().ssl_mode(PgSslMode::VerifyFull);
    }
    let looks = matches!(parsed.connect.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    if is_given("tls.ca") && !looks {
        let problem = "`tls.ca` is not looked at in this `sslmode`";
        problems.push(OptionError::new("tls.ca", problem, "write `sslmode: verify-full`"));
    }
    for (one, other) in [("tls.certificate", "tls.key"), ("tls.key", "tls.certificate")] {
        if is_given(one) && !is_given(other) {
            problems.push(OptionError::new(
                one,
                format!("`{one}` needs `{other}`"),
                format!("add `{other}`"),
            ));
        }
    }
    problems
}

/// The option that was probably meant, or all of them.
fn known(name: &str) -> String {
    let scored = OWN.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let near = scored.into_iter().filter(|(score, _)| *score > 0.6).max_by(|a, b| a.0.total_cmp(&b.0));
    near.map_or_else(
        || format!("known are {}", OWN.join(", ")),
        |(_, near)| format!("did you mean `{near}`?"),
    )
}

fn number<T: TryFrom<u64>>(name: &str, value: &str, min: u64, max: u64) -> Result<T, OptionError> {
    let refused = || {
        let help = format!("write a number, from {min} to {max}");
        OptionError::new(name, format!("`{name}` is not a whole number"), help)
    };
    let number: u64 = value.replace('_', "").parse().map_err(|_| refused())?;
    if (min..=max).contains(&number) { T::try_from(number).map_err(|_| refused()) } else { Err(refused()) }
}

fn text(name: &str, value: &str, bytes_max: usize) -> Result<String, OptionError> {
    let fits = (1..=bytes_max).contains(&value.len()) && !value.chars().any(char::is_control);
    let problem = || format!("`{name}` is empty, too long or holds a control character");
    if fits {
        Ok(value.to_owned())
    } else {
        Err(OptionError::new(name, problem(), format!("write 1 to {bytes_max} bytes of text")))
    }
}

/// From a second, below which a busy server would be given up, to ten minutes.
fn duration(name: &str, value: &str) -> Result<Duration, OptionError> {
    let parsed: Option<Duration> =
        value.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.filter(|duration| (1..=600).contains(&duration.as_secs())).ok_or_else(|| {
        OptionError::new(name, format!("`{name}` is not a duration from 1 s to 10 min"), "write `10s`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(address: &str, options: &[(&str, &str)]) -> Vec<String> {
        let parsed = PostgresOptions::parse(address, options.iter().copied());
        parsed.err().unwrap_or_default().into_iter().map(|error| format!("{error}: {}", error.help)).collect()
    }

    #[test]
    fn an_address_and_options_are_read() {
        let address = "postgres://hub:p%40ss@db.example:6432/shop?sslmode=require&application_name=my%20hub";
        let options = [("pool", "16"), ("call_timeout", "5s"), ("source", "/shop")];
        let parsed = PostgresOptions::parse(address, options).expect("they are right");
        assert_eq!(parsed.place(), "db.example:6432/shop");
        assert_eq!(
            (parsed.pool, parsed.call_timeout, parsed.source.as_str()),
            (16, Duration::from_secs(5), "/shop")
        );
        assert_eq!(parsed.application_name, "my hub");
        assert!(!format!("{parsed:?}").contains("p@ss"), "{parsed:?}");
        let plain = PostgresOptions::parse("postgres://hub@db/shop", []).expect("it is right");
        assert_eq!(plain.source, "/outbox/shop");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_without_its_value() {
        let options = [("pool", "many"), ("sslmode", "yes"), ("call_timeout", "soon"), ("poool", "secret")];
        let told = problems("mysql://hub@db/shop", &options);
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(told.iter().all(|told| !told.contains("many") && !told.contains("secret")), "{told:?}");
        assert!(
            told[4].starts_with("there is no option `poool` of Postgres: did you mean `pool`?"),
            "{told:?}"
        );
    }

    #[test]
    fn an_authority_is_asked_or_refused() {
        let mode = |options: &[(&str, &str)]| {
            let parsed = PostgresOptions::parse("postgres://hub@db/shop", options.iter().copied());
            parsed.expect("they are right").connect.get_ssl_mode()
        };
        assert!(matches!(mode(&[("tls.ca", "/ca.pem")]), PgSslMode::VerifyFull));
        assert!(matches!(mode(&[("sslmode", "verify-ca"), ("tls.ca", "/ca.pem")]), PgSslMode::VerifyCa));
        let told = problems("postgres://hub@db/shop?sslmode=require&sslrootcert=/ca.pem", &[]);
        assert_eq!(told, ["`tls.ca` is not looked at in this `sslmode`: write `sslmode: verify-full`"]);
        let told = problems("postgres://hub@db/shop", &[("tls.certificate", "/hub.pem")]);
        assert_eq!(told, ["`tls.certificate` needs `tls.key`: add `tls.key`"]);
        assert_eq!(
            problems("postgres://hub@db/shop", &[("sslmode", "allow")]).len(),
            1,
            "it is none of ours"
        );
    }

    #[test]
    fn an_address_names_a_user_and_a_database() {
        assert!(problems("postgres://hub@db", &[])[0].starts_with("the address names no database"));
        assert!(problems("postgres://db/shop", &[])[0].starts_with("the address names no user"));
        assert!(problems("postgres://hub@db/shop?shema=x", &[])[0].contains("`shema`"));
    }
}
