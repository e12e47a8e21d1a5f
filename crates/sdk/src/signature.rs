//! Webhook signatures: the recipe is data, so a vendor costs lines of YAML and no code.
//!
//! A [`Recipe`] says what is signed, how, and where the signature stands. With the secrets of a connection it becomes a
//! [`Verifier`], which also signs (for tests, and for simulated vendors). [`StandardSigner`] is the outgoing side of
//! Standard Webhooks, made for the hot path.

mod message;
mod recipe;
mod settings;
mod standard;
mod verifier;

pub use message::Message;
pub use recipe::{
    Algorithm, Encoding, Place, Recipe, RecipeError, SecretFormat, SignaturePlace, TimestampRule,
    TimestampUnit,
};
pub use settings::RecipeSettings;
pub use standard::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, StandardSigner};
pub use verifier::{SecretError, Unverified, Verifier};
