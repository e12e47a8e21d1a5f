//! Turning jaq's complaints into errors with a place and a way out.

use std::ops::Range;

use jaq_core::compile::{Errors, Undefined};
use jaq_core::load::{lex, parse, span};
use strsim::damerau_levenshtein;

use crate::{CompileError, Scope, library};

/// The first of what the lexer did not understand.
pub(crate) fn lexing(source: &str, errors: &[lex::Error<&str>]) -> CompileError {
    let Some((expected, rest)) = errors.first() else {
        return CompileError::new("the program cannot be read", 0..source.len());
    };
    let start = span(source, rest).start;
    let end = start + rest.chars().next().map_or(0, char::len_utf8);
    match expected {
        lex::Expect::Token => CompileError::new("this is not part of the jq language", start..end),
        other => CompileError::new(format!("expected {}", other.as_str()), start..end),
    }
}

/// The first of what the parser did not understand.
pub(crate) fn parsing(source: &str, errors: &[parse::TError<'_, &str>]) -> CompileError {
    let Some((expected, found)) = errors.first() else {
        return CompileError::new("the program cannot be read", 0..source.len());
    };
    let place = span(source, lex::Token::opt_as_str(*found, source));
    match (expected, found) {
        (parse::Expect::Nothing, Some(token)) => {
            let found = token.as_str().chars().take(20).collect::<String>();
            CompileError::new(format!("unexpected `{found}`"), place)
        }
        (parse::Expect::Just(""), _) => CompileError::new("unexpected end", place),
        (parse::Expect::Just(text), _) => CompileError::new(format!("expected `{text}`"), place),
        (other, None) => {
            CompileError::new(format!("expected {}, but the program ends", other.as_str()), place)
        }
        (other, Some(_)) => CompileError::new(format!("expected {}", other.as_str()), place),
    }
}

/// The first name that stands for nothing.
pub(crate) fn undefined(source: &str, errors: &Errors<&str, ()>, scope: &Scope) -> CompileError {
    let Some((name, kind)) = errors.iter().flat_map(|(_, errors)| errors).next() else {
        return CompileError::new("the program cannot be compiled", 0..source.len());
    };
    let place = place(source, name);
    if let Some(reason) = library::refusal(name) {
        return CompileError::new(format!("`{name}` is not available here"), place).with_help(reason);
    }
    match kind {
        Undefined::Var => unknown_variable(name, scope, place),
        Undefined::Filter(arity) => unknown_function(name, *arity, place),
        Undefined::Label => CompileError::new(format!("`{name}` is not a label around this"), place),
        _ => CompileError::new(format!("`{name}` is a module, which is not available here"), place),
    }
}

/// Where a name stands. Every name that can be unknown is a part of the source.
fn place(source: &str, name: &str) -> Range<usize> {
    let whole = source.as_bytes().as_ptr_range();
    if whole.contains(&name.as_ptr()) { span(source, name) } else { 0..source.len() }
}

fn unknown_variable(name: &str, scope: &Scope, place: Range<usize>) -> CompileError {
    let allowed: Vec<String> = scope.names().iter().map(|name| format!("${name}")).collect();
    let near = nearest(name, allowed.iter().map(|name| &**name));
    let list = std::iter::once("`.`".to_owned()).chain(allowed.iter().map(|name| format!("`{name}`")));
    let list = format!("allowed here: {}", list.collect::<Vec<_>>().join(", "));
    let help = near.map_or(list.clone(), |near| format!("{list}; did you mean `{near}`?"));
    CompileError::new(format!("unknown variable `{name}`"), place).with_help(help)
}

fn unknown_function(name: &str, arity: usize, place: Range<usize>) -> CompileError {
    let known = library::names();
    let arities: Vec<usize> = known.iter().filter(|(it, _)| *it == name).map(|(_, arity)| *arity).collect();
    if !arities.is_empty() || ["reduce", "foreach"].contains(&name) {
        let error = CompileError::new(format!("`{name}` does not take {}", arguments(arity)), place);
        let counts = arities.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
        return if counts.is_empty() { error } else { error.with_help(format!("it takes {counts}")) };
    }
    let error = CompileError::new(format!("unknown function `{name}`"), place);
    match nearest(name, known.iter().map(|(name, _)| *name)) {
        Some(near) => {
            let arity = known.iter().find(|(it, _)| *it == near).map_or(0, |(_, arity)| *arity);
            error.with_help(format!("did you mean `{near}`, which takes {}?", arguments(arity)))
        }
        None => error,
    }
}

fn arguments(count: usize) -> String {
    match count {
        0 => "no argument".to_owned(),
        1 => "1 argument".to_owned(),
        count => format!("{count} arguments"),
    }
}

/// The name that was probably meant: at most a third of it is different.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = names.map(|known| (damerau_levenshtein(name, known), known));
    let close = distances.filter(|(distance, known)| distance * 3 <= known.chars().count());
    close.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Why a program may not begin with this token, if it is the start of a module.
pub(crate) fn module(source: &str, first: &lex::Token<&str>) -> Option<CompileError> {
    let name = first.as_str();
    let error = || CompileError::new(format!("`{name}` is not available here"), span(source, name));
    ["import", "include", "module"]
        .contains(&name)
        .then(|| error().with_help("a program is one text without modules"))
}
