//! JSON in requests, read field by field so that each mistake is named with its place; JSON in answers.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Answer, Api, Problem, body, problem::Kind, problem::shown};

/// The fields of an object that a client sent. Whoever has asked for every field that it knows calls
/// [`Fields::finish`], which refuses the others.
#[derive(Debug)]
pub(crate) struct Fields {
    place: String,
    object: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// The body of a request, which must be a JSON object and say so: a form of another site's page cannot.
    pub(crate) async fn of(api: &Api, request: Request) -> Result<(HeaderMap, Self), Problem> {
        let (head, body) = request.into_parts();
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            body::linger(&head.headers, body);
            return Err(Problem::new(
                Kind::MEDIA_TYPE,
                "send a JSON object with `content-type: application/json`",
            ));
        }
        let taken = body::read(api, &head.headers, body).await?;
        Ok((head.headers, Self::parse(&taken.bytes)?))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| Problem::malformed("", format!("the body is not JSON: {error}")))?;
        Self::within(String::new(), value)
    }

    fn within(place: String, value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(object) => Ok(Self { place, object, known: Vec::new() }),
            _ => Err(Problem::malformed(place, "must be a JSON object")),
        }
    }

    /// Where a field of this name stands.
    pub(crate) fn place(&self, name: &str) -> String {
        format!("{}/{}", self.place, name.replace('~', "~0").replace('/', "~1"))
    }

    /// Whether the field is there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.object.shift_remove(name).filter(|value| !value.is_null())
    }

    /// A field that holds text.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::malformed(self.place(name), format!("`{name}` must be text"))),
        }
    }

    /// A field that holds text of a certain form; `parse` says what is allowed.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let place = self.place(name);
        let text = self.text(name)?;
        text.map(|text| parse(&text)).transpose().map_err(|problem| Problem::malformed(place, problem))
    }

    /// A field that holds a list of text.
    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, Problem> {
        let place = self.place(name);
        let wrong = |place| Problem::malformed(place, format!("`{name}` must be a list of text"));
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let text = |(n, item)| match item {
                    Value::String(text) => Ok(text),
                    _ => Err(wrong(format!("{place}/{n}"))),
                };
                items.into_iter().enumerate().map(text).collect()
            }
            Some(_) => Err(wrong(place)),
        }
    }

    /// A field that holds a rate: items a second, above 0; none for no limit.
    pub(crate) fn rate(&mut self, name: &'static str) -> Result<Option<f64>, Problem> {
        let place = self.place(name);
        let wrong = || {
            Problem::malformed(place, format!("`{name}` must be a number above 0 (items a second) or null"))
        };
        match self.take(name) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|rate| *rate > 0.0).map(Some).ok_or_else(wrong),
        }
    }

    /// A field that holds an object.
    pub(crate) fn object(&mut self, name: &'static str) -> Result<Option<Self>, Problem> {
        let place = self.place(name);
        self.take(name).map(|value| Self::within(place, value)).transpose()
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let Some(name) = self.object.keys().next() else { return Ok(()) };
        let problem = Problem::malformed(self.place(name), format!("there is no field `{}`", shown(name)));
        Err(problem.known(name, self.known.iter().copied()))
    }
}

/// An answer with a JSON body.
pub(crate) fn answer(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(error = %error, "an answer cannot be written as JSON");
        Problem::new(Kind::INTERNAL, "the answer cannot be written as JSON")
    })?;
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A list as it is written.
#[derive(Serialize)]
pub(crate) struct List<'a, T> {
    pub(crate) items: &'a [T],
    pub(crate) next: Option<&'a str>,
}

/// The answer with a list that is always whole.
pub(crate) fn all<T: Serialize>(items: Vec<T>) -> Answer {
    ok(&List { items: &items, next: None })
}

/// The answer to a question.
pub(crate) fn ok(value: &impl Serialize) -> Answer {
    answer(StatusCode::OK, value)
}

/// A response with where the new thing is found.
pub(crate) fn located(mut response: Response, path: &str) -> Response {
    if let Ok(path) = HeaderValue::try_from(path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
        let mut fields = Fields::parse(br#"{"selection":{"gruops":["g1"]}}"#).unwrap();
        let mut selection = fields.object("selection").unwrap().unwrap();
        selection.texts("groups").unwrap();
        let problem = selection.finish().unwrap_err();
        assert_eq!(problem.pointer.as_deref(), Some("/selection/gruops"));
        assert_eq!(problem.nearest.as_deref(), Some("groups"));
    }

    #[test]
    fn each_field_must_have_its_type() {
        let pointer = |read: fn(&mut Fields) -> Option<Problem>| {
            let json = br#"{"a":1,"b":["x",2],"c":0,"d":"x","e":null}"#;
            read(&mut Fields::parse(json).unwrap()).and_then(|problem| problem.pointer)
        };
        assert_eq!(pointer(|fields| fields.text("a").err()).as_deref(), Some("/a"));
        assert_eq!(pointer(|fields| fields.texts("b").err()).as_deref(), Some("/b/1"));
        assert_eq!(pointer(|fields| fields.rate("c").err()).as_deref(), Some("/c"));
        assert_eq!(pointer(|fields| fields.object("d").err()).as_deref(), Some("/d"));
        assert_eq!(pointer(|fields| fields.text("e").err()), None);
    }
}
