//! A server outside of the hub as the file names it: an address, and options with it.
//!
//! ```yaml
//! broker: kafka://h1:9092,h2:9092
//! store: { url: "postgres://hub:${env.PASSWORD}@db/hub", pool: 8 }
//! ```
//!
//! Here are the rules that all servers share: where an address may stand, and that no secret stands in the file. What the
//! options mean is told by the adapter.

use super::{
    place,
    problem::{Problem, code},
    reader::{Reader, unresolved},
    reference,
    yaml::{Entry, Node, Span, Value},
};

/// A server with its references put in. Has no `Debug`: it may hold a password.
pub struct Server {
    /// The address, whose user and password are percent-encoded where references put them in.
    pub url: String,
    /// Where the address stands.
    pub at: Span,
    /// The options, in the order of the file.
    pub options: Vec<Written>,
}

/// An option as it is written, references put in.
pub struct Written {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where its name stands.
    pub name_at: Span,
    /// Where its value stands.
    pub value_at: Span,
    /// Whether no part of the value comes from the environment, or a default for it stands in the file.
    pub literal: bool,
}

impl Server {
    /// The address for people: without user, password and options.
    pub fn shown(&self) -> String {
        let place = self.url.split(['?', '#']).next().unwrap_or_default();
        match place.split_once("://") {
            Some((scheme, rest)) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
                format!("{scheme}://{}", &rest[host..])
            }
            None => place.to_owned(),
        }
    }

    /// What stands before `://`, or all of it where nothing does.
    pub fn scheme(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(scheme, _)| scheme)
    }
}

impl Reader<'_> {
    /// An address, or a map of `url` and options.
    pub fn server(&mut self, entry: &Entry, what: &str) -> Option<Server> {
        let Value::Map(entries) = &entry.node.value else {
            let url = self.address(&entry.node, what)?;
            return Some(Server { url, at: entry.node.span.clone(), options: Vec::new() });
        };
        let Some(url) = entries.iter().find(|entry| entry.name == "url") else {
            let message = format!("{what} needs `url`");
            let problem = Problem::new(code::MISSING_FIELD, entry.at.clone(), message);
            self.report(problem.help("the address, for example `url: postgres://hub@127.0.0.1/hub`"));
            return None;
        };
        let address = self.address(&url.node, "`url`");
        let mut options = Vec::new();
        let others = entries.iter().filter(|entry| entry.name != "url");
        let whole = others.map(|entry| self.server_option("", entry, &mut options)).collect::<Vec<_>>();
        Some(Server { url: address?, at: url.node.span.clone(), options }).filter(|_| !whole.contains(&false))
    }

    /// An option, or a map of options whose names are put together: `tls: { ca: x }` is `tls.ca: x`.
    fn server_option(&mut self, prefix: &str, entry: &Entry, options: &mut Vec<Written>) -> bool {
        let name = format!("{prefix}{}", entry.name);
        if let Value::Map(entries) = &entry.node.value {
            let prefix = format!("{name}.");
            let whole: Vec<_> =
                entries.iter().map(|entry| self.server_option(&prefix, entry, options)).collect();
            return !whole.contains(&false);
        }
        let Some(resolved) = self.resolved(&entry.node, &format!("`{name}`")) else { return false };
        options.push(Written {
            name,
            value: resolved.text,
            name_at: entry.at.clone(),
            value_at: entry.node.span.clone(),
            literal: resolved.inserted.is_empty() || resolved.has_default,
        });
        true
    }

    /// An address whose password, if it has one, comes from the environment.
    fn address(&mut self, node: &Node, what: &str) -> Option<String> {
        let written = self.text(node, what)?;
        let parts = Parts::of(written);
        if parts.password_is_literal() {
            self.problems.hidden.push(node.span.clone());
            let message = format!("the password of {what} is secret and must not stand in the file");
            self.report(
                Problem::new(code::LITERAL_SECRET, node.span.clone(), message)
                    .help("put it into an environment variable and write `user:${env.NAME}@host` here, without a default"),
            );
            return None;
        }
        let mut url = String::with_capacity(written.len());
        let (mut whole, mut from) = (true, 0);
        for (text, encode) in [(parts.before, false), (parts.credentials, true), (parts.after, false)] {
            let insert = |value: &str| if encode { percent_encode(value) } else { value.to_owned() };
            match reference::resolve_each(text, self.environment(), &insert) {
                Ok(resolved) => url.push_str(&resolved.text),
                Err(problems) => {
                    for problem in problems {
                        let inner = problem.span.start + from..problem.span.end + from;
                        let span = place::within(&self.problems.text, &node.span, written, &inner);
                        self.report(unresolved(span, problem.reason));
                    }
                    whole = false;
                }
            }
            from += text.len();
        }
        whole.then_some(url)
    }

    /// Refuses a secret option that stands in the file.
    pub fn secret_option(&mut self, option: &Written) {
        if !option.literal {
            return;
        }
        self.problems.hidden.push(option.value_at.clone());
        let message = format!("`{}` is secret and must not stand in the file", option.name);
        self.report(
            Problem::new(code::LITERAL_SECRET, option.value_at.clone(), message)
                .help("put it into an environment variable and write `\"${env.NAME}\"` here"),
        );
    }
}

/// Whether a text is an address that holds a password.
pub fn has_password(text: &str) -> bool {
    text.contains("://") && Parts::of(text).password_is_literal()
}

/// The parts of an address as it is written.
struct Parts<'t> {
    before: &'t str,
    /// `user:password`, without the `@`; empty where there is none.
    credentials: &'t str,
    after: &'t str,
}

impl<'t> Parts<'t> {
    fn of(written: &'t str) -> Self {
        let masked = masked(written);
        let start = masked.find("://").map_or(0, |scheme| scheme + 3);
        let end = masked[start..].find(['/', '?', '#']).map_or(masked.len(), |end| start + end);
        match masked[start..end].rfind('@') {
            Some(at) if start > 0 => Self {
                before: &written[..start],
                credentials: &written[start..start + at],
                after: &written[start + at..],
            },
            _ => Self { before: written, credentials: "", after: "" },
        }
    }

    fn password_is_literal(&self) -> bool {
        let masked_credentials = masked(self.credentials);
        let password = masked_credentials.split_once(':').map_or("", |(_, password)| password);
        let literal = !password.is_empty() && !password.contains(MASK);
        let from = masked_credentials.len() - password.len();
        literal
            || (!password.is_empty() && has_default(&self.credentials[from..]))
            || defaults(self.before)
                .chain(defaults(self.after))
                .any(|default| Parts::of(default).has_password())
            || masked(self.before).contains("password=")
            || masked(self.after).contains("password=")
    }

    fn has_password(&self) -> bool {
        self.credentials.contains(':')
    }
}

const MASK: char = '\u{1}';

/// The text with every reference replaced by as many bytes that mean nothing in an address.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = rest[start..].find('}').map_or(rest.len(), |end| start + end + 1);
        masked.push_str(&rest[..start]);
        masked.extend(std::iter::repeat_n(MASK, end - start));
        rest = &rest[end..];
    }
    masked.push_str(rest);
    masked
}

/// The defaults of the references of a text.
fn defaults(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|reference| {
        let inner = reference.split('}').next().unwrap_or_default();
        inner.split_once(':').map(|(_, default)| default)
    })
}

fn has_default(text: &str) -> bool {
    defaults(text).next().is_some()
}

/// A user name or a password as it may stand in an address.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_password_is_found_wherever_it_stands() {
        for literal in [
            "postgres://hub:word@db/hub",
            "amqps://hub:word@[::1]:5671/%2f",
            "kafka://hub:word@h1:9092,h2:9092",
            "postgres://hub:${env.P:word}@db/hub",
            "${env.URL:postgres://hub:word@db/hub}",
            "postgres://db/hub?password=word",
        ] {
            assert!(Parts::of(literal).password_is_literal(), "{literal}");
        }
        for right in [
            "postgres://hub@db/hub",
            "postgres://hub:${env.P}@db:5432/hub",
            "postgres://${env.U}:${env.P}@${env.H:db}:5432/hub",
            "${env.URL}",
            "${env.URL:postgres://hub@db/hub}",
            "kafka://h1:9092,h2:9092",
            "embedded",
        ] {
            assert!(!Parts::of(right).password_is_literal(), "{right}");
        }
    }

    #[test]
    fn an_address_is_shown_without_what_is_secret() {
        let shown = |url: &str| Server { url: url.to_owned(), at: 0..0, options: Vec::new() }.shown();
        assert_eq!(shown("postgres://hub:p%40ss@db:5432/hub?sslmode=require"), "postgres://db:5432/hub");
        assert_eq!(shown("kafka://hub:p@h1:9092,h2:9092"), "kafka://h1:9092,h2:9092");
        assert_eq!(shown("amqp://mq/@x"), "amqp://mq/@x");
        assert_eq!(shown("embedded"), "embedded");
    }

    #[test]
    fn what_is_put_into_credentials_is_encoded() {
        assert_eq!(percent_encode("p@ss/w:rd%é-._~"), "p%40ss%2Fw%3Ard%25%C3%A9-._~");
    }
}
