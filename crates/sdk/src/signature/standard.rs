//! Standard Webhooks, the outgoing side.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Encoding, SecretError, SecretFormat};

/// The header that holds the id of a message: the same over every attempt.
pub const HEADER_ID: &str = "webhook-id";
/// The header that holds the time of an attempt, in seconds since 1970.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// The header that holds the signatures.
pub const HEADER_SIGNATURE: &str = "webhook-signature";

/// The fewest and the most bytes of a secret:
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme>.
const SECRET_BYTES: (usize, usize) = (24, 64);

/// Signs by Standard Webhooks (<https://www.standardwebhooks.com>), with every secret it is given.
pub struct StandardSigner {
    keys: Vec<hmac::Key>,
}

impl StandardSigner {
    /// How a secret is written, for people whose secret is refused.
    pub const SECRET_HELP: &str = "write `whsec_` and base64 of 24 to 64 random bytes, as from \
                                   `echo \"whsec_$(openssl rand -base64 24)\"`";

    /// Reads `whsec_` secrets; several are separated by spaces, so that the receiver may change from one to the next.
    pub fn new(secrets: &SecretString) -> Result<Self, SecretError> {
        let format = SecretFormat {
            encoding: Encoding::Base64,
            strip_prefix: Some("whsec_".to_owned()),
            bytes: Some(SECRET_BYTES),
            ..SecretFormat::default()
        };
        let keys = secrets.expose_secret().split_ascii_whitespace();
        let keys = keys.map(|secret| Ok(hmac::Key::new(hmac::HMAC_SHA256, &format.decode(secret)?)));
        let keys = keys.collect::<Result<Vec<_>, SecretError>>()?;
        if keys.is_empty() { Err(SecretError::Empty) } else { Ok(Self { keys }) }
    }

    /// The value of [`HEADER_SIGNATURE`] for `id.timestamp.body`.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut out = String::with_capacity(self.keys.len() * 48);
        for key in &self.keys {
            let mut context = hmac::Context::with_key(key);
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                context.update(part);
            }
            out.push_str(if out.is_empty() { "v1," } else { " v1," });
            STANDARD.encode_string(context.sign(), &mut out);
        }
        out
    }
}
