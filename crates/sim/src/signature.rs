//! The signatures of webhooks, as their vendors make them.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

/// A Standard Webhooks secret is not `whsec_` and base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a Standard Webhooks secret is `whsec_` and base64")]
pub struct BadSecret;

/// `X-Shopify-Hmac-Sha256`: base64 of HMAC-SHA256 over the raw body, keyed with the client secret.
pub fn shopify_signature(secret: &str, body: &[u8]) -> String {
    STANDARD.encode(sign(secret.as_bytes(), &[body]))
}

/// `X-Hub-Signature-256`: `sha256=` and hex of HMAC-SHA256 over the raw body.
pub fn github_signature(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(sign(secret.as_bytes(), &[body])))
}

/// One item of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.
pub fn standard_signature(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Result<String, BadSecret> {
    let key = secret.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok()).ok_or(BadSecret)?;
    let signed = sign(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    Ok(format!("v1,{}", STANDARD.encode(signed)))
}

fn sign(key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_signature_is_the_one_of_the_specification() {
        // https://github.com/standard-webhooks/standard-webhooks, libraries' shared vector.
        let signature = standard_signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn a_github_signature_is_the_one_of_the_documentation() {
        // https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, "Testing".
        assert_eq!(
            github_signature("It's a Secret to Everybody", b"Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }

    #[test]
    fn a_secret_that_is_not_base64_is_refused() {
        assert_eq!(standard_signature("whsec_?", "m", "1", b""), Err(BadSecret));
        assert_eq!(standard_signature("plain", "m", "1", b""), Err(BadSecret));
    }
}
