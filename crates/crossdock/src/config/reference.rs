//! `${env.NAME}` and `${env.NAME:default}`: what a scalar takes from the environment.

use super::yaml::Span;

/// How variables are looked up. A variable that is set to nothing counts as not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text with its references put in. Has no `Debug`: it may hold a secret.
pub struct Resolved {
    /// The text.
    pub text: String,
    /// What references put in, in order, defaults included.
    pub inserted: Vec<String>,
    /// Whether one of them has a default.
    pub has_default: bool,
}

/// Why a reference was not put in, and where in the text.
#[derive(Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The place within the text.
    pub span: Span,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a reference.
#[derive(Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has no closing brace, or is neither of the two forms.
    Malformed,
    /// The variable is not set and there is no default.
    Missing(String),
}

/// Puts the references of a text in. `$${` writes a literal `${`.
pub fn resolve(text: &str, environment: Environment<'_>) -> Result<Resolved, Vec<Unresolved>> {
    resolve_each(text, environment, &str::to_owned)
}

/// The same, with what `insert` makes of each value.
pub fn resolve_each(
    text: &str,
    environment: Environment<'_>,
    insert: &dyn Fn(&str) -> String,
) -> Result<Resolved, Vec<Unresolved>> {
    let mut resolved =
        Resolved { text: String::with_capacity(text.len()), inserted: Vec::new(), has_default: false };
    let mut problems = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let start = at + found;
        if text[..start].ends_with('$') && start > at {
            resolved.text.push_str(&text[at..start - 1]);
            resolved.text.push_str("${");
            at = start + 2;
            continue;
        }
        resolved.text.push_str(&text[at..start]);
        let end = text[start..].find('}').map_or(text.len(), |end| start + end + 1);
        match look_up(&text[start..end], environment) {
            Ok((value, has_default)) => {
                resolved.text.push_str(&insert(&value));
                resolved.inserted.push(value);
                resolved.has_default |= has_default;
            }
            Err(reason) => problems.push(Unresolved { span: start..end, reason }),
        }
        at = end;
    }
    resolved.text.push_str(&text[at..]);
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

/// The value of one `${env.NAME}` or `${env.NAME:default}`, and whether it has a default.
fn look_up(reference: &str, environment: Environment<'_>) -> Result<(String, bool), Reason> {
    let inner = reference
        .strip_prefix("${env.")
        .and_then(|inner| inner.strip_suffix('}'))
        .ok_or(Reason::Malformed)?;
    let (name, default) = match inner.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(letters) {
        return Err(Reason::Malformed);
    }
    environment(name)
        .filter(|value| !value.is_empty())
        .or_else(|| default.map(str::to_owned))
        .map(|value| (value, default.is_some()))
        .ok_or_else(|| Reason::Missing(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("crm.test".to_owned()),
            "EMPTY" => Some(String::new()),
            "ODD" => Some("${env.HOST}".to_owned()),
            _ => None,
        }
    }

    fn text(text: &str) -> Result<String, Vec<Unresolved>> {
        resolve(text, &environment).map(|resolved| resolved.text)
    }

    #[test]
    fn references_are_put_in_once_and_defaults_stand_in() {
        assert_eq!(text("https://${env.HOST}:${env.PORT:443}/"), Ok("https://crm.test:443/".to_owned()));
        assert_eq!(text("${env.ODD}"), Ok("${env.HOST}".to_owned()));
        assert_eq!(text("$${env.HOST} costs $5"), Ok("${env.HOST} costs $5".to_owned()));
        assert_eq!(text("${env.EMPTY:x}"), Ok("x".to_owned()));
    }

    #[test]
    fn what_is_missing_or_malformed_is_told_with_its_place() {
        let missing = |span, name: &str| Unresolved { span, reason: Reason::Missing(name.to_owned()) };
        assert_eq!(
            text("a${env.NO}b${env.EMPTY}"),
            Err(vec![missing(1..10, "NO"), missing(11..23, "EMPTY")])
        );
        for wrong in ["${env.}", "${env.1A}", "${env.A-B}", "${HOST}", "${env.HOST", "${.a}"] {
            assert_eq!(text(wrong).expect_err(wrong)[0].reason, Reason::Malformed);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(written in "[$\\{}env.:HOST ä]{0,40}") {
            let _ = text(&written);
        }
    }
}
