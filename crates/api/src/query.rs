//! The query of a request, read name by name like [`crate::json::Fields`].

use axum::{extract::Query as Pairs, http::Uri};
use crossdock_core::PageRequest;

use crate::{Problem, problem::shown};

const LIMIT_DEFAULT: usize = 50;
pub(crate) const LIMIT_MAX: usize = 1000;

/// The parameters of a query.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::malformed("?", format!("the query cannot be read: {error}")))?;
        Ok(Self { pairs, known: Vec::new() })
    }

    /// Every value of a name.
    pub(crate) fn all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.pairs.extract_if(.., |(known, _)| known == name).map(|(_, value)| value).collect()
    }

    /// The one value of a name.
    pub(crate) fn one(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        let mut values = self.all(name);
        let value = values.pop();
        if values.is_empty() { Ok(value) } else { Err(wrong(name, "may be there once")) }
    }

    /// The one value of a name, in a certain form; `parse` says what is allowed.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let value = self.one(name)?;
        value
            .map(|value| parse(&value))
            .transpose()
            .map_err(|problem| Problem::malformed(format!("?{name}"), problem))
    }

    /// `limit` and `cursor`.
    pub(crate) fn page(&mut self) -> Result<PageRequest, Problem> {
        let limit = self.parsed("limit", |text| {
            let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
            limit.ok_or_else(|| format!("`limit` must be a whole number from 1 to {LIMIT_MAX}"))
        })?;
        Ok(PageRequest { limit: limit.unwrap_or(LIMIT_DEFAULT), cursor: self.one("cursor")? })
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.pairs.first() else { return Ok(()) };
        let problem = Problem::malformed(
            format!("?{}", shown(name)),
            format!("there is no parameter `{}`", shown(name)),
        );
        Err(problem.known(name, self.known.iter().copied()))
    }
}

/// Refuses every parameter, for routes that take none.
pub(crate) fn none(uri: &Uri) -> Result<(), Problem> {
    match uri.query() {
        None => Ok(()),
        Some(_) => Query::of(uri)?.finish(),
    }
}

fn wrong(name: &str, what: &str) -> Problem {
    Problem::malformed(format!("?{name}"), format!("`{name}` {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &'static str) -> Result<PageRequest, Problem> {
        Query::of(&Uri::from_static(query))?.page()
    }

    #[test]
    fn the_limit_is_from_1_to_1000() {
        assert_eq!(page("/").unwrap().limit, 50);
        assert_eq!(page("/?limit=1").unwrap().limit, 1);
        assert_eq!(page("/?limit=1000&cursor=x").unwrap().cursor.as_deref(), Some("x"));
        for wrong in
            ["/?limit=0", "/?limit=1001", "/?limit=-1", "/?limit=", "/?limit=1&limit=2", "/?limit=1e2"]
        {
            assert!(page(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_what_was_meant() {
        let mut query = Query::of(&Uri::from_static("/?flwo=x")).unwrap();
        query.one("flow").unwrap();
        assert_eq!(query.finish().unwrap_err().nearest.as_deref(), Some("flow"));
    }
}
