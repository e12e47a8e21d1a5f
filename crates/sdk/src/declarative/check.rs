//! The tests that a manifest brings, run offline.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::Declarative;
use crate::{
    ConnectionName, Connector, Environment, Event, FieldKind, Inbound, Inbox, Refusal, SecretString, Setting,
    Settings, Webhook,
    manifest::{Expect, TestCase},
    signature::{Encoding, Recipe, TimestampUnit, Verifier},
};

/// What requests of tests are signed with.
const SECRET: &str = "the secret of these tests";

/// A test of a manifest that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{test}: {problem}")]
pub struct CheckFailure {
    /// The name of the test.
    pub test: String,
    /// What was expected and what came.
    pub problem: String,
}

impl Declarative {
    /// Runs the tests of the manifest; `read` gives the files of its folder. Each request is signed by the recipe and must
    /// give what the test expects; then it is tampered with, left unsigned, signed with another secret and signed too
    /// early and too late, and must be refused. Gives the number of requests made; no test at all is a failure.
    pub fn check(&self, read: impl Fn(&str) -> Option<Bytes>) -> Result<usize, Vec<CheckFailure>> {
        let mut made = 0;
        let mut failures = Vec::new();
        for test in &self.tests {
            let failed = |problem| CheckFailure { test: test.name.clone(), problem };
            match self.run(test, &read) {
                Ok(requests) => made += requests,
                Err(problem) => failures.push(failed(problem)),
            }
        }
        if self.tests.is_empty() {
            let problem = "the manifest has no tests".to_owned();
            failures.push(CheckFailure { test: self.spec.name.clone(), problem });
        }
        if failures.is_empty() { Ok(made) } else { Err(failures) }
    }

    fn secret(&self) -> SecretString {
        let recipe = self.source.as_ref().and_then(|source| source.verify.as_ref());
        recipe.map_or_else(|| SECRET.into(), |recipe| secret_for(recipe, SECRET))
    }

    fn run(&self, test: &TestCase, read: &impl Fn(&str) -> Option<Bytes>) -> Result<usize, String> {
        let body = read(&test.body).ok_or_else(|| format!("there is no file `{}`", test.body))?;
        let name = ConnectionName::new("test").map_err(|error| error.to_string())?;
        let settings = self.settings(test)?;
        let connection = self.connect(&name, &settings, Environment { loopback: true });
        let connection = connection.map_err(|error| error.to_string())?;
        let webhook = connection.webhook().ok_or("the connector has no webhook")?;
        let trial = Trial {
            test,
            body,
            webhook: &*webhook,
            now: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000),
        };
        match self.source.as_ref().and_then(|source| source.verify.as_ref()) {
            Some(recipe) => trial.signed(&recipe.configured(&settings).map_err(|error| error.to_string())?),
            None => trial.plain().map(|()| 1),
        }
    }

    fn settings(&self, test: &TestCase) -> Result<Settings, String> {
        let mut settings = BTreeMap::new();
        for field in &self.spec.config {
            let setting = match (field.kind, test.config.get(field.name)) {
                (FieldKind::Secret, _) if field.required => Setting::Secret(self.secret()),
                (FieldKind::Bool, Some(text)) => Setting::Bool(text == "true"),
                (FieldKind::Integer, Some(text)) => {
                    Setting::Integer(text.parse().map_err(|_| "not a number")?)
                }
                (FieldKind::Text | FieldKind::Url | FieldKind::Choice(_), Some(text)) => {
                    Setting::Text(text.clone())
                }
                (_, None) => continue,
                (_, Some(_)) => return Err(format!("tests cannot set `{}`", field.name)),
            };
            settings.insert(field.name.to_owned(), setting);
        }
        match test.config.keys().find(|name| !settings.contains_key(name.as_str())) {
            Some(name) => Err(format!("`{name}` is not a field of `config`")),
            None => Ok(Settings(settings)),
        }
    }
}

struct Trial<'a> {
    test: &'a TestCase,
    body: Bytes,
    webhook: &'a dyn Webhook,
    now: Timestamp,
}

impl Trial<'_> {
    fn plain(&self) -> Result<(), String> {
        self.expect(&self.test.expect, &self.request(self.body.clone(), &[]))
    }

    fn signed(&self, recipe: &Recipe) -> Result<usize, String> {
        let right = secret_for(recipe, SECRET);
        let wrong = secret_for(recipe, "the secret of someone else");
        let good = self.sign(recipe, &right, self.now)?;
        self.expect(&self.test.expect, &self.request(self.body.clone(), &good))?;
        let tampered = [&self.body[..], b" "].concat();
        let mut refused = vec![
            ("without its signature", self.request(self.body.clone(), &[])),
            (
                "signed with another secret",
                self.request(self.body.clone(), &self.sign(recipe, &wrong, self.now)?),
            ),
        ];
        if recipe.signed_names().any(|name| name == "body") {
            refused.push(("with another body", self.request(tampered.into(), &good)));
        }
        if let Some(rule) = &recipe.timestamp {
            let off = SignedDuration::try_from(rule.tolerance).unwrap_or(SignedDuration::MAX)
                + SignedDuration::from_secs(1);
            for (what, at) in [("signed too early", self.now - off), ("signed too late", self.now + off)] {
                refused.push((what, self.request(self.body.clone(), &self.sign(recipe, &right, at)?)));
            }
        }
        let made = refused.len() + 1;
        for (what, request) in refused {
            if !matches!(self.webhook.handle(&request, self.now), Inbox::Refuse(Refusal::Unauthorized(_))) {
                return Err(format!("the request {what} was not refused"));
            }
        }
        Ok(made)
    }

    fn sign(
        &self,
        recipe: &Recipe,
        secret: &SecretString,
        at: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        let mut vars = Vec::new();
        for (name, place) in &recipe.vars {
            let rule = recipe.timestamp.as_ref().filter(|rule| rule.var == *name);
            let value = match rule {
                Some(rule) => match rule.unit {
                    TimestampUnit::Seconds => at.as_second().to_string(),
                    TimestampUnit::Milliseconds => at.as_millisecond().to_string(),
                    TimestampUnit::Rfc3339 => at.to_string(),
                },
                None => self
                    .header(&place.header)
                    .ok_or_else(|| format!("the test has no header `{}`", place.header))?,
            };
            vars.push((name.as_str(), value));
        }
        let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let verifier = Verifier::new(recipe.clone(), &[secret]).map_err(|error| error.to_string())?;
        verifier
            .sign("POST", "https://hub.example/in/test", &self.body, &vars)
            .map_err(|error| error.to_string())
    }

    fn header(&self, name: &str) -> Option<String> {
        let found = self.test.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }

    fn request(&self, body: Bytes, signature: &[(String, String)]) -> Inbound {
        let signed = |name: &str| signature.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
        let given = self.test.headers.iter().filter(|(name, _)| !signed(name));
        let mut headers = vec![("host".to_owned(), "hub.example".to_owned())];
        headers.extend(given.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        headers.extend(signature.iter().cloned());
        Inbound { method: "POST".to_owned(), uri: "/in/test".to_owned(), headers, body }
    }

    fn expect(&self, expect: &Expect, request: &Inbound) -> Result<(), String> {
        match (self.webhook.handle(request, self.now), &expect.refuse, &expect.reply) {
            (Inbox::Accept(events), None, None) => expect_events(expect, &events),
            (Inbox::Reply { body, .. }, None, Some(reply)) if body == reply.as_bytes() => Ok(()),
            (Inbox::Refuse(refusal), Some(part), None) if format!("{refusal:?}").contains(part.as_str()) => {
                Ok(())
            }
            (came, ..) => Err(format!("came: {came:?}")),
        }
    }
}

fn secret_for(recipe: &Recipe, text: &str) -> SecretString {
    let encoded = match recipe.secret.encoding {
        Encoding::Utf8 => text.to_owned(),
        Encoding::Base64 => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text),
        Encoding::Hex => hex::encode(text),
    };
    format!("{}{encoded}", recipe.secret.strip_prefix.as_deref().unwrap_or_default()).into()
}

fn expect_events(expect: &Expect, events: &[Event]) -> Result<(), String> {
    let wanted = expect.events.unwrap_or(1);
    if events.len() != wanted {
        return Err(format!("expected {wanted} events, came {}", events.len()));
    }
    let Some(event) = events.first() else { return Ok(()) };
    let time = event.time.map(|time| time.to_string());
    let attributes = [
        ("type", &expect.kind, Some(&event.kind)),
        ("id", &expect.id, Some(&event.id)),
        ("key", &expect.key, event.key.as_ref()),
        ("time", &expect.time, time.as_ref()),
        ("subject", &expect.subject, event.subject.as_ref()),
    ];
    match attributes.into_iter().find(|(_, wanted, came)| wanted.is_some() && wanted.as_ref() != *came) {
        Some((name, wanted, came)) => Err(format!("expected {name} {wanted:?}, came {came:?}")),
        None => Ok(()),
    }
}
