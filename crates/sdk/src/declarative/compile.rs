//! From what is written to what runs.

use crossdock_expr::{CompileError, Program, Scope, Template};
use serde_saphyr::Spanned;

use super::emit::{Alternatives, Emitter};
use crate::{
    ConnectorSpec, FieldKind,
    manifest::{BodyKind, Emit, Handshake, HeaderRule, ManifestError, Texts, WebhookManifest},
    signature::Recipe,
};

/// What expressions of a webhook may use besides `.`.
const SCOPE: Scope = Scope::new(&["headers", "config", "request"]);

/// A webhook, ready to run.
pub(super) struct Source {
    pub(super) matching: Vec<HeaderRule>,
    pub(super) verify: Option<Recipe>,
    pub(super) unsigned: Option<String>,
    pub(super) body_kind: BodyKind,
    pub(super) form_field: Option<String>,
    pub(super) handshake: Option<Greeting>,
    pub(super) emitter: Emitter,
}

/// A handshake, ready to run.
pub(super) struct Greeting {
    pub(super) when: Program,
    pub(super) reply: Template,
    pub(super) content_type: &'static str,
}

/// Compiles the parts of one file.
pub(super) struct Compiler<'a> {
    pub(super) file: &'a str,
    pub(super) yaml: &'a str,
    pub(super) spec: &'a ConnectorSpec,
}

impl Compiler<'_> {
    /// The webhook.
    pub(super) fn source(&self, webhook: WebhookManifest) -> Result<Source, ManifestError> {
        for rule in &webhook.matching {
            if let Some(field) =
                rule.setting.as_deref().filter(|field| self.field(field) != Some(FieldKind::Text))
            {
                let message =
                    format!("`match` names `{field}`, which is not a field of `config` of type text");
                return Err(ManifestError::whole(self.file, message));
            }
        }
        let matching = webhook.matching.into_iter();
        let matching =
            matching.map(|rule| HeaderRule { header: rule.header.to_ascii_lowercase(), ..rule }).collect();
        self.check_trust(webhook.verify.as_ref(), webhook.unsigned.as_ref())?;
        Ok(Source {
            matching,
            verify: webhook.verify.map(|recipe| recipe.value),
            unsigned: webhook.unsigned.map(|field| field.value),
            body_kind: webhook.body.kind,
            form_field: webhook.body.form_field,
            handshake: webhook.handshake.map(|handshake| self.greeting(handshake)).transpose()?,
            emitter: self.emitter(webhook.emit)?,
        })
    }

    /// A webhook is signed, or an operator says of each connection that it need not be; nothing in between.
    fn check_trust(
        &self,
        verify: Option<&Spanned<Recipe>>,
        unsigned: Option<&Spanned<String>>,
    ) -> Result<(), ManifestError> {
        match (verify, unsigned) {
            (Some(recipe), None) => self.check_recipe(recipe),
            (None, Some(field)) if self.field(&field.value) == Some(FieldKind::Bool) => Ok(()),
            (None, Some(field)) => {
                let message = format!("`{}` is not a field of `config` of type bool", field.value);
                Err(ManifestError::at(self.file, field.referenced, message))
            }
            _ => {
                let message = "a webhook has either `verify` or `unsigned`";
                Err(ManifestError::whole(self.file, message))
            }
        }
    }

    fn check_recipe(&self, recipe: &Spanned<Recipe>) -> Result<(), ManifestError> {
        let error = |message: String| ManifestError::at(self.file, recipe.referenced, message);
        recipe.value.check().map_err(|problem| error(problem.to_string()))?;
        let fields = &recipe.value.secret.from;
        if fields.is_empty() {
            return Err(error("`secret.from` names no field of `config`".to_owned()));
        }
        recipe.value.settings.check(&self.spec.config).map_err(error)?;
        match fields.iter().find(|name| self.field(name) != Some(FieldKind::Secret)) {
            Some(name) => Err(error(format!("`{name}` is not a field of `config` of type secret"))),
            None => Ok(()),
        }
    }

    fn field(&self, name: &str) -> Option<FieldKind> {
        self.spec.config.iter().find(|field| field.name == name).map(|field| field.kind)
    }

    fn greeting(&self, handshake: Handshake) -> Result<Greeting, ManifestError> {
        Ok(Greeting {
            when: self.text(&handshake.when, Program::compile)?,
            reply: self.text(&handshake.reply, Template::compile)?,
            content_type: handshake.content_type.leak(),
        })
    }

    fn emitter(&self, emit: Emit) -> Result<Emitter, ManifestError> {
        Ok(Emitter {
            items: emit.items.map(|items| self.text(&items, Program::compile)).transpose()?,
            kind: self.texts(emit.kind, Template::compile)?,
            id: self.texts(emit.id, Template::compile)?,
            key: self.optional(emit.key, Program::compile)?,
            time: self.optional(emit.time, Template::compile)?,
            subject: self.optional(emit.subject, Template::compile)?,
            source: self.optional(emit.source, Template::compile)?,
        })
    }

    fn optional<T>(
        &self,
        texts: Option<Spanned<Texts>>,
        compile: impl Fn(&str, &Scope) -> Result<T, CompileError>,
    ) -> Result<Option<Alternatives<T>>, ManifestError> {
        texts.map(|texts| self.texts(texts, compile)).transpose()
    }

    fn texts<T>(
        &self,
        texts: Spanned<Texts>,
        compile: impl Fn(&str, &Scope) -> Result<T, CompileError>,
    ) -> Result<Alternatives<T>, ManifestError> {
        let several = match texts.value {
            Texts::One(text) => vec![Spanned::new(text, texts.referenced, texts.defined)],
            Texts::Several(several) => several,
        };
        let compiled = several.iter().map(|text| self.text(text, &compile));
        compiled.collect::<Result<_, _>>().map(Alternatives)
    }

    fn text<T>(
        &self,
        text: &Spanned<String>,
        compile: impl Fn(&str, &Scope) -> Result<T, CompileError>,
    ) -> Result<T, ManifestError> {
        compile(&text.value, &SCOPE)
            .map_err(|error| ManifestError::expression(self.file, self.yaml, text, error))
    }
}
