//! The `config` of a connection: checked against what its connector says of itself, references put in.

use crossdock_core::{Field, FieldKind, Setting, Settings};
use reqwest::Url;
use secrecy::SecretString;

use super::{
    problem::{Problem, code},
    reader::{Fields, Reader},
    yaml::{Node, Span},
};

impl Reader<'_> {
    /// Every field of a `config`. Missing only if something was reported.
    pub fn settings(&mut self, config: Option<&Node>, owner: &Span, known: &[Field]) -> Option<Settings> {
        let names: Vec<_> = known.iter().map(|field| field.name).collect();
        let empty = Node { span: owner.clone(), value: super::yaml::Value::Map(Vec::new()) };
        let fields = self.fields(config.unwrap_or(&empty), "`config`", owner, &names)?;
        let mut settings = Settings::default();
        let mut whole = true;
        for field in known {
            match self.field(&fields, field) {
                Ok(Some(setting)) => drop(settings.0.insert(field.name.to_owned(), setting)),
                Ok(None) => {}
                Err(Reported) => whole = false,
            }
        }
        whole.then_some(settings)
    }

    fn field(&mut self, fields: &Fields<'_>, field: &Field) -> Result<Option<Setting>, Reported> {
        let Some(node) = fields.get(field.name) else {
            if field.required {
                self.required(fields, field.name, field.about);
                return Err(Reported);
            }
            return Ok(None);
        };
        let what = format!("`{}`", field.name);
        self.setting(node, &what, field.kind).map(Some).ok_or(Reported)
    }

    fn setting(&mut self, node: &Node, what: &str, kind: FieldKind) -> Option<Setting> {
        match kind {
            FieldKind::Text | FieldKind::Path => {
                self.resolved(node, what).map(|resolved| Setting::Text(resolved.text))
            }
            FieldKind::Secret => self.secret(node, what).map(Setting::Secret),
            FieldKind::Url => self.url(node, what),
            FieldKind::Integer => self.integer(node, what, 0, u64::MAX).map(Setting::Integer),
            FieldKind::Bool => self.bool(node, what).map(Setting::Bool),
            FieldKind::Duration => self.duration(node, what).map(Setting::Duration),
            FieldKind::Choice(words) => {
                self.choice(node, what, words).map(|word| Setting::Text(word.to_owned()))
            }
            FieldKind::TextMap => self
                .named(node, what, |reader, node, what| {
                    reader.resolved(node, what).map(|resolved| resolved.text)
                })
                .map(Setting::TextMap),
            FieldKind::SecretMap => self.named(node, what, Self::secret).map(Setting::SecretMap),
            FieldKind::TextList => self.texts(node, what).map(Setting::TextList),
        }
    }

    /// Text that takes at least a part of itself from the environment.
    pub fn secret(&mut self, node: &Node, what: &str) -> Option<SecretString> {
        let resolved = self.resolved(node, what)?;
        if !resolved.inserted.is_empty() && !resolved.has_default {
            return Some(SecretString::from(resolved.text));
        }
        let message = match resolved.has_default {
            true => format!("{what} is secret, so its default must not stand in the file"),
            false => format!("{what} is secret and must not stand in the file"),
        };
        self.problems.hidden.push(node.span.clone());
        self.report(
            Problem::new(code::LITERAL_SECRET, node.span.clone(), message)
                .help("put it into an environment variable and write `\"${env.NAME}\"` here"),
        );
        None
    }

    fn url(&mut self, node: &Node, what: &str) -> Option<Setting> {
        let written = self.text(node, what)?;
        if written.split(['/', '?', '#']).nth(2).is_some_and(|authority| authority.contains('@')) {
            self.problems.hidden.push(node.span.clone());
            let message = format!("{what} must not hold a user name or a password");
            self.report(
                Problem::new(code::LITERAL_SECRET, node.span.clone(), message)
                    .help("send credentials in a header whose value comes from `${env.NAME}`"),
            );
            return None;
        }
        let url = self.parsed(node, what, URL_HELP, url)?;
        let inserted = self.resolved(node, what)?.inserted;
        Some(Setting::Url(url, inserted.into_iter().map(SecretString::from).collect()))
    }

    fn named<T>(
        &mut self,
        node: &Node,
        what: &str,
        read: impl Fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        let entries = self.entries(node, what)?;
        let read: Vec<_> = entries
            .iter()
            .map(|entry| {
                let what = format!("`{}`", entry.name);
                read(self, &entry.node, &what).map(|value| (entry.name.clone(), value))
            })
            .collect();
        read.into_iter().collect()
    }

    /// A list of text, references put in.
    pub fn texts(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        let items = self.list(node, what)?;
        let read: Vec<_> =
            items.iter().map(|item| self.resolved(item, what).map(|resolved| resolved.text)).collect();
        read.into_iter().collect()
    }
}

/// Something was wrong and has been collected.
struct Reported;

const URL_HELP: &str = "an `http://` or `https://` address, for example `https://crm.example.com/api`";

fn url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let fits = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    fits.then(|| text.to_owned())
}
