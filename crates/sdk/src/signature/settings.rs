//! What of a recipe an operator may set, for senders that are nobody's product.

use serde::{
    Deserialize,
    de::{IntoDeserializer, value::Error},
};

use super::Recipe;
use crate::{ConnectorError, Field, FieldKind, Settings};

/// The fields of `config` that replace a part of the recipe, where they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeSettings {
    /// The field that says what makes the signature.
    #[serde(default)]
    pub algorithm: Option<String>,
    /// The field that names the header of the signature.
    #[serde(default)]
    pub header: Option<String>,
    /// The field that says what the signature begins with.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The field that says how the signature is written.
    #[serde(default)]
    pub encoding: Option<String>,
}

impl RecipeSettings {
    /// Checks that the fields are there, and that each word of a choice is one that the recipe knows.
    pub(crate) fn check(&self, config: &[Field]) -> Result<(), String> {
        for name in [&self.header, &self.prefix].into_iter().flatten() {
            match kind(config, name) {
                Some(FieldKind::Text) => {}
                _ => return Err(format!("`{name}` is not a field of `config` of type text")),
            }
        }
        check_words::<super::Algorithm>(config, self.algorithm.as_deref())?;
        check_words::<super::Encoding>(config, self.encoding.as_deref())
    }
}

impl Recipe {
    /// The recipe with what the operator has set.
    pub(crate) fn configured(&self, settings: &Settings) -> Result<Self, ConnectorError> {
        let mut recipe = self.clone();
        let set = |field: &Option<String>| {
            let field = field.as_deref()?;
            Some((field.to_owned(), settings.text(field)?.to_owned()))
        };
        if let Some((field, header)) = set(&self.settings.header) {
            let name = http::HeaderName::from_bytes(header.as_bytes());
            let name = name.map_err(|_| wrong(&field, "this is not the name of a header"))?;
            name.as_str().clone_into(&mut recipe.signature.header);
        }
        if let Some((_, prefix)) = set(&self.settings.prefix) {
            recipe.signature.prefix = prefix;
        }
        if let Some((field, word)) = set(&self.settings.algorithm) {
            recipe.algorithm = read(&word).map_err(|error| wrong(&field, error))?;
        }
        if let Some((field, word)) = set(&self.settings.encoding) {
            recipe.signature.encoding = read(&word).map_err(|error| wrong(&field, error))?;
        }
        recipe.check().map_err(|error| ConnectorError { field: None, message: error.to_string() })?;
        Ok(recipe)
    }
}

fn kind(config: &[Field], name: &str) -> Option<FieldKind> {
    config.iter().find(|field| field.name == name).map(|field| field.kind)
}

fn check_words<'de, T: Deserialize<'de>>(config: &[Field], name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let Some(FieldKind::Choice(words)) = kind(config, name) else {
        return Err(format!("`{name}` is not a field of `config` of type choice"));
    };
    words.iter().try_for_each(|word| read::<T>(word).map(drop))
}

fn read<'de, T: Deserialize<'de>>(word: &str) -> Result<T, String> {
    T::deserialize(word.to_owned().into_deserializer()).map_err(|error: Error| error.to_string())
}

fn wrong(field: &str, message: impl Into<String>) -> ConnectorError {
    ConnectorError { field: Some(field.to_owned()), message: message.into() }
}
