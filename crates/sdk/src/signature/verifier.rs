//! A recipe with its secrets.

use std::borrow::Cow;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Algorithm, Encoding, Recipe, SecretFormat, TimestampUnit,
    recipe::{Place, SignaturePlace},
};
use crate::Inbound;

/// A secret cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It would let everyone in.
    #[error("the secret is empty")]
    Empty,
    /// It is not written as the recipe says.
    #[error("the secret is not valid {0}")]
    Encoding(&'static str),
    /// It stands for fewer or more bytes than the vendor's standard allows; the numbers are what it has, the fewest and
    /// the most.
    #[error("the secret is {0} bytes, and must be {1} to {2}")]
    Length(usize, usize, usize),
}

/// Why a request is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A header is missing, or none of its values has the prefix.
    #[error("the header `{0}` is missing or does not hold what it should")]
    Missing(String),
    /// The time of signing cannot be read.
    #[error("the timestamp in `{0}` is not a time")]
    Timestamp(String),
    /// It was signed too long ago: perhaps a replay.
    #[error("the request was signed more than {} s ago", .0.as_secs())]
    Old(std::time::Duration),
    /// It was signed in the future: a clock is wrong.
    #[error("the request was signed more than {} s in the future", .0.as_secs())]
    Future(std::time::Duration),
    /// No signature fits: another secret, or a changed request.
    #[error("the signature does not fit")]
    Mismatch,
}

/// A [`Recipe`] with the secrets of a connection. Verifies the raw bytes, in constant time, before anything is parsed.
pub struct Verifier {
    recipe: Recipe,
    keys: Vec<Key>,
}

struct Key {
    raw: Vec<u8>,
    mac: Option<hmac::Key>,
}

/// What the names in `signed` stand for.
struct Values<'a> {
    method: &'a str,
    url: Cow<'a, str>,
    body: &'a [u8],
    vars: Vec<(&'a str, Cow<'a, str>)>,
}

impl Verifier {
    /// Checks the recipe and reads the secrets; any one of them verifies, the first signs. At least one must be given.
    pub fn new(recipe: Recipe, secrets: &[&SecretString]) -> Result<Self, SecretError> {
        let keys = secrets.iter().map(|secret| {
            let raw = recipe.secret.decode(secret.expose_secret())?;
            let mac = recipe.algorithm.mac().map(|algorithm| hmac::Key::new(algorithm, &raw));
            Ok(Key { raw, mac })
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(SecretError::Empty) } else { Ok(Self { recipe, keys }) }
    }

    /// Whether the request was signed with one of the secrets, and recently if the recipe asks for that.
    pub fn verify(&self, request: &Inbound, now: Timestamp) -> Result<(), Unverified> {
        let place = &self.recipe.signature;
        let header =
            request.header(&place.header).ok_or_else(|| Unverified::Missing(place.header.clone()))?;
        let values = self.values(request)?;
        self.check_time(&values, now)?;
        let mut found = false;
        let mut fits = false;
        for key in &self.keys {
            let expected = self.signature(key, &values)?;
            for given in items(header, place.split.as_deref(), &place.prefix) {
                found = true;
                fits |= verify_slices_are_equal(given.as_bytes(), expected.as_bytes()).is_ok();
            }
        }
        match (found, fits) {
            (_, true) => Ok(()),
            (true, false) => Err(Unverified::Mismatch),
            (false, false) => Err(Unverified::Missing(place.header.clone())),
        }
    }

    /// The headers that a vendor would send with this request: the signature and every value that is signed with it.
    pub fn sign(
        &self,
        method: &str,
        url: &str,
        body: &[u8],
        vars: &[(&str, &str)],
    ) -> Result<Vec<(String, String)>, Unverified> {
        let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))).collect();
        let values = Values { method, url: Cow::Borrowed(url), body, vars };
        let key = self.keys.first().ok_or(Unverified::Mismatch)?;
        let signature = self.signature(key, &values)?;
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, place) in &self.recipe.vars {
            let value = values.var(name).ok_or_else(|| Unverified::Missing(place.header.clone()))?;
            append(&mut headers, &place.header, place.split.as_deref(), &format!("{}{value}", place.prefix));
        }
        let SignaturePlace { header, split, prefix, .. } = &self.recipe.signature;
        append(&mut headers, header, split.as_deref(), &format!("{prefix}{signature}"));
        Ok(headers)
    }

    fn values<'a>(&'a self, request: &'a Inbound) -> Result<Values<'a>, Unverified> {
        let mut vars = Vec::with_capacity(self.recipe.vars.len());
        for (name, place) in &self.recipe.vars {
            vars.push((name.as_str(), Cow::Borrowed(place.find(request)?)));
        }
        let url =
            Cow::Owned(format!("https://{}{}", request.header("host").unwrap_or_default(), request.uri));
        Ok(Values { method: &request.method, url, body: &request.body, vars })
    }

    fn check_time(&self, values: &Values<'_>, now: Timestamp) -> Result<(), Unverified> {
        let Some(rule) = &self.recipe.timestamp else { return Ok(()) };
        let text = values.var(&rule.var).unwrap_or_default();
        let signed_at = rule.unit.read(text).ok_or_else(|| Unverified::Timestamp(rule.var.clone()))?;
        let tolerance = SignedDuration::try_from(rule.tolerance).unwrap_or(SignedDuration::MAX);
        let age = now.duration_since(signed_at);
        if age > tolerance {
            return Err(Unverified::Old(rule.tolerance));
        }
        if age < -tolerance {
            return Err(Unverified::Future(rule.tolerance));
        }
        Ok(())
    }

    /// The signature as text, without its prefix.
    fn signature(&self, key: &Key, values: &Values<'_>) -> Result<String, Unverified> {
        if self.recipe.algorithm == Algorithm::Token {
            return Ok(String::from_utf8_lossy(&key.raw).into_owned());
        }
        let lookup = |name: &str| values.lookup(name, key);
        let missing = |name: &str| Unverified::Missing(name.to_owned());
        let bytes = if let Some(mac) = &key.mac {
            let mut context = hmac::Context::with_key(mac);
            self.recipe.signed.feed(lookup, |part| context.update(part)).map_err(missing)?;
            context.sign().as_ref().to_vec()
        } else {
            let mut context = digest::Context::new(&digest::SHA256);
            self.recipe.signed.feed(lookup, |part| context.update(part)).map_err(missing)?;
            context.finish().as_ref().to_vec()
        };
        Ok(self.recipe.signature.encoding.write(&bytes))
    }
}

impl Values<'_> {
    fn var(&self, name: &str) -> Option<&str> {
        self.vars.iter().find(|(var, _)| *var == name).map(|(_, value)| value.as_ref())
    }

    fn lookup<'v>(&'v self, name: &str, key: &'v Key) -> Option<Cow<'v, [u8]>> {
        Some(match name {
            "body" => Cow::Borrowed(self.body),
            "method" => Cow::Borrowed(self.method.as_bytes()),
            "url" => Cow::Borrowed(self.url.as_bytes()),
            "url_decoded" => Cow::Owned(decode_url(&self.url).into_bytes()),
            "secret" => Cow::Borrowed(&key.raw),
            _ => Cow::Borrowed(self.var(name)?.as_bytes()),
        })
    }
}

impl Place {
    fn find<'a>(&self, request: &'a Inbound) -> Result<&'a str, Unverified> {
        let missing = || Unverified::Missing(self.header.clone());
        let header = request.header(&self.header).ok_or_else(missing)?;
        let value = items(header, self.split.as_deref(), &self.prefix).next().ok_or_else(missing)?;
        if value.is_empty() { Err(missing()) } else { Ok(value) }
    }
}

impl Algorithm {
    fn mac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::HmacSha256 => Some(hmac::HMAC_SHA256),
            Self::HmacSha512 => Some(hmac::HMAC_SHA512),
            Self::HmacSha1 => Some(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            Self::Sha256 | Self::Token => None,
        }
    }
}

impl Encoding {
    fn write(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Hex => hex::encode(bytes),
        }
    }
}

impl SecretFormat {
    /// How a secret is written, for people whose secret is refused; nothing if it is any text.
    pub(crate) fn help(&self) -> Option<String> {
        let encoding = match self.encoding {
            Encoding::Utf8 => return None,
            Encoding::Base64 => "base64",
            Encoding::Hex => "hex",
        };
        let prefix =
            self.strip_prefix.as_deref().map(|prefix| format!("`{prefix}` and ")).unwrap_or_default();
        let bytes =
            self.bytes.map(|(fewest, most)| format!(" of {fewest} to {most} bytes")).unwrap_or_default();
        Some(format!("write {prefix}{encoding}{bytes}"))
    }

    /// The bytes that the text of a secret stands for.
    pub(crate) fn decode(&self, text: &str) -> Result<Vec<u8>, SecretError> {
        let prefix = self.strip_prefix.as_deref().unwrap_or_default();
        let text = text.strip_prefix(prefix).unwrap_or(text);
        let bytes = match self.encoding {
            Encoding::Utf8 => text.as_bytes().to_vec(),
            Encoding::Base64 => lenient_base64().decode(text).map_err(|_| SecretError::Encoding("base64"))?,
            Encoding::Hex => hex::decode(text).map_err(|_| SecretError::Encoding("hex"))?,
        };
        match self.bytes {
            _ if bytes.is_empty() => Err(SecretError::Empty),
            Some((fewest, most)) if !(fewest..=most).contains(&bytes.len()) => {
                Err(SecretError::Length(bytes.len(), fewest, most))
            }
            _ => Ok(bytes),
        }
    }
}

impl TimestampUnit {
    fn read(self, text: &str) -> Option<Timestamp> {
        let digits =
            || (text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok());
        match self {
            Self::Seconds => Timestamp::from_second(digits()??).ok(),
            Self::Milliseconds => Timestamp::from_millisecond(digits()??).ok(),
            Self::Rfc3339 => text.parse().ok(),
        }
    }
}

/// The values of a header that begin with `prefix`, without it.
fn items<'h, 's>(
    header: &'h str,
    split: Option<&'s str>,
    prefix: &'s str,
) -> impl Iterator<Item = &'h str> + use<'h, 's> {
    // A separator that cannot occur leaves the header whole.
    header.split(split.unwrap_or("\n")).filter_map(move |item| item.trim().strip_prefix(prefix))
}

fn append(headers: &mut Vec<(String, String)>, header: &str, split: Option<&str>, value: &str) {
    match headers.iter_mut().find(|(name, _)| name == header) {
        Some((_, values)) => {
            values.push_str(split.unwrap_or(","));
            values.push_str(value);
        }
        None => headers.push((header.to_owned(), value.to_owned())),
    }
}

/// Decodes the characters that HubSpot decodes before it signs, and no others.
/// <https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>
fn decode_url(url: &str) -> String {
    const DECODED: [(&str, &str); 12] = [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ];
    let mut out = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at..at + 3).unwrap_or("%");
        let decoded = DECODED.iter().find(|(encoded, _)| encoded.eq_ignore_ascii_case(code));
        out.push_str(decoded.map_or(code, |(_, character)| character));
        rest = &rest[at + code.len()..];
    }
    out + rest
}

fn lenient_base64() -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, config)
}
