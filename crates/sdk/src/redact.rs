//! What people may see of an answer.

use crossdock_core::is_obeyed;
use secrecy::{ExposeSecret as _, SecretString};

/// What stands in the place of a secret.
const MASK: &str = "‹redacted›";

/// Most bytes of an answer that are kept for people.
const EXCERPT_BYTES_MAX: usize = 2048;

/// A run of characters that is at least this long and mixes letters and digits looks like a token.
const TOKEN_LENGTH: usize = 32;

/// Secrets shorter than this are not searched for: they would tear holes into ordinary words.
const SECRET_LENGTH: usize = 4;

/// What credentials of well-known systems begin with.
const PREFIXES: [&str; 14] = [
    "whsec_",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "shpat_",
    "AKIA",
    "eyJ",
];

/// Takes secrets out of text: those of a connection, and what looks like one.
#[derive(Clone, Default)]
pub struct Redactor {
    /// The longest first, so that a secret that contains another is taken out whole.
    secrets: Vec<SecretString>,
}

impl Redactor {
    /// Knows these secrets, also as they are written in URLs and JSON.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut all = Vec::new();
        for secret in secrets {
            let secret = secret.expose_secret();
            all.push(secret.to_owned());
            all.push(
                percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string(),
            );
            all.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
            all.push(serde_json::Value::from(secret).to_string().trim_matches('"').to_owned());
        }
        all.retain(|secret| secret.len() >= SECRET_LENGTH);
        all.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        all.dedup();
        Self { secrets: all.into_iter().map(SecretString::from).collect() }
    }

    /// The beginning of a body, or `None` if it is empty.
    pub fn excerpt(&self, body: &[u8]) -> Option<String> {
        Some(self.text(body, EXCERPT_BYTES_MAX)).filter(|text| !text.is_empty())
    }

    /// At most `bytes_max` of these bytes as text: secrets masked, control characters written out.
    pub fn text(&self, bytes: &[u8], bytes_max: usize) -> String {
        // Masked before it is cut, so that no half of a secret stays at the end.
        let window = &bytes[..bytes.len().min(bytes_max * 4)];
        let masked = self.mask(&String::from_utf8_lossy(window));
        let mut out = String::with_capacity(masked.len().min(bytes_max) + 8);
        for character in masked.chars() {
            let start = out.len();
            write_plain(character, &mut out);
            if out.len() > bytes_max {
                out.truncate(start);
                out.push('…');
                break;
            }
        }
        out
    }

    /// The text without secrets.
    pub fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), MASK);
            }
        }
        mask_lookalikes(&text)
    }
}

/// Masks what follows `Bearer` and `Basic`, and words that look like tokens.
fn mask_lookalikes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut scheme = false;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_token_character(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if !word.is_empty() {
            let hide = looks_secret(word) || (scheme && word.len() >= 6);
            out.push_str(if hide { MASK } else { word });
            scheme = ["bearer", "basic", "token"].iter().any(|name| word.eq_ignore_ascii_case(name));
        }
        let gap = after.find(is_token_character).unwrap_or(after.len());
        let (between, next) = after.split_at(gap);
        scheme &= between.chars().all(char::is_whitespace);
        out.push_str(between);
        rest = next;
    }
    out
}

fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=')
}

fn looks_secret(word: &str) -> bool {
    if PREFIXES.iter().any(|prefix| word.len() >= prefix.len() + 8 && word.starts_with(prefix)) {
        return true;
    }
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    word.len() >= TOKEN_LENGTH && digits >= 3 && letters >= 3 && !is_uuid(word)
}

/// Ids are what an operator looks for; they are no secrets.
fn is_uuid(word: &str) -> bool {
    word.len() == 36 && uuid::Uuid::try_parse(word).is_ok()
}

/// What a terminal obeys is written out: an answer must not draw on it.
fn write_plain(character: char, out: &mut String) {
    if is_obeyed(character) {
        out.extend(character.escape_default());
    } else {
        out.push(character);
    }
}
