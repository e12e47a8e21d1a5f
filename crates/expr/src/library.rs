//! The functions that programs may call: jaq's, without those that reach outside, and with guards.

use std::collections::HashSet;
use std::sync::OnceLock;

use jaq_core::box_iter::box_once;
use jaq_core::data::JustLut;
use jaq_core::load::Arena;
use jaq_core::load::parse::{BinaryOp, Def, Term};
use jaq_core::native::{Filter, Fun, bome, run, unary, v};
use jaq_core::{Cv, Error, Exn, RunPtr, ValXs};

use crate::guard::Guard;
use crate::limits;
use crate::outline::Outline;
use crate::tick::{self, CHECK, DEEPEN, TICK};
use crate::value::{Val, stopped};

pub(crate) type Data = JustLut<Val>;

/// Definitions in jq that jaq does not bring.
const ADDITIONS: &str = include_str!("additions.jq");

/// What programs may not call, with the reason. `/n` is left out where it holds for any number of arguments.
const REFUSED: [(&str, &str); 15] = [
    ("input", READS),
    ("inputs", READS),
    ("$ENV", READS),
    ("env", READS),
    ("input_filename", READS),
    ("input_line_number", READS),
    ("$__prog_args", READS),
    ("debug", WRITES),
    ("stderr", WRITES),
    ("halt", "a program cannot end its process; use `error(\"…\")` to fail the event"),
    ("halt_error", "a program cannot end its process; use `error(\"…\")` to fail the event"),
    ("localtime", "it depends on the time zone of the machine; use `gmtime`"),
    ("strflocaltime", "it depends on the time zone of the machine; use `strftime`"),
    ("tobytes", "JSON has no byte strings"),
    ("get_search_list", READS),
];
const READS: &str = "a program reads only `.` and its variables";
const WRITES: &str = "a program writes nothing but its result";

/// Functions that are part of how others are made, and not of the language.
const INTERNAL: [&str; 12] = [
    "debug_empty",
    "stderr_empty",
    "error_empty",
    "min_by_or_empty",
    "max_by_or_empty",
    "matches",
    "split_matches",
    "split_",
    "scan_",
    "totype",
    "capture_of_match",
    "row_",
];

/// The natives that search by regular expression, and the names that they get, so that each can be charged before.
const REGEXES: [(&str, &str); 3] =
    [("matches", "!matches"), ("split_matches", "!split_matches"), ("split_", "!split_")];
const CHARGE: &str = "!charge";

/// Why `name` cannot be used, if it is one of those that are taken out.
pub(crate) fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| *reason)
}

/// A definition in jq, guarded, and the functions that it calls.
struct Definition {
    def: Def<&'static str>,
    calls: Vec<(&'static str, usize)>,
}

/// The definitions in jq, in an order in which each uses only itself and earlier ones.
fn definitions() -> &'static [Definition] {
    static DEFINITIONS: OnceLock<Vec<Definition>> = OnceLock::new();
    DEFINITIONS.get_or_init(|| {
        let additions =
            jaq_core::load::parse(ADDITIONS, |parser| parser.defs()).expect("our own jq is correct");
        let regexes = REGEXES.map(|(name, native)| charged(name, native)).into_iter();
        let all =
            regexes.chain(jaq_core::defs()).chain(jaq_std::defs()).chain(jaq_json::defs()).chain(additions);
        // `tonumber` in jq would parse any JSON; the native one reads a number, leading zeros included.
        let kept = all.filter(|def| refusal(def.name).is_none() && def.name != "tonumber");
        let names: &'static Arena = Box::leak(Box::default());
        let guarded = kept.map(|def| {
            let mut guard = Guard::new("", names);
            let def = guard.definition(def);
            Definition { def, calls: guard.calls }
        });
        guarded.collect()
    })
}

/// What a program that makes `calls` needs of the library, and no more: each program keeps its own compiled copy.
pub(crate) fn needed<'s>(calls: &[(&'s str, usize)]) -> (Vec<Def<&'s str>>, Vec<Fun<Data>>) {
    let mut needed: HashSet<(&'s str, usize)> = calls.iter().copied().collect();
    needed.extend([(TICK, 0), (CHECK, 0), (DEEPEN, 1)]);
    let mut kept = Vec::new();
    for definition in definitions().iter().rev() {
        if needed.contains(&(definition.def.name, definition.def.args.len())) {
            needed.extend(&definition.calls);
            kept.push(definition.def.clone());
        }
    }
    kept.reverse();
    let functions = functions().filter(|(name, args, _)| needed.contains(&(*name, args.len())));
    (kept, functions.collect())
}

/// The native functions. Of two with the same name and arity the first counts.
fn functions() -> impl Iterator<Item = Fun<Data>> {
    let ours = values().into_vec().into_iter().map(run::<Data>).chain(tick::functions());
    let jaqs = jaq_core::funs().chain(jaq_std::funs()).map(|(name, args, native)| {
        let renamed = REGEXES.iter().find(|(regex, _)| *regex == name);
        (renamed.map_or(name, |(_, native)| native), args, native)
    });
    ours.chain(jaqs).filter(|(name, ..)| refusal(name).is_none())
}

/// A definition that accounts for a search before it calls the native.
fn charged(name: &'static str, native: &'static str) -> Def<&'static str> {
    let (pattern, flags) = (Term::Var("$pattern"), Term::Var("$flags"));
    let charge = Term::Call(CHARGE, vec![pattern.clone()]);
    let search = Term::Call(native, vec![pattern, flags]);
    let body = Term::BinOp(Box::new(charge), BinaryOp::Pipe(None), Box::new(search));
    Def { name, args: vec!["$pattern", "$flags"], body }
}

/// Account for a search, which takes time for each byte of the text times the size of the pattern.
fn charge(mut cv: Cv<'_, Data>) -> ValXs<'_, Val> {
    let length = |value: &Val| value.as_text().map_or(0, |text| text.len() as u64);
    let bytes = length(&cv.0.pop_var()).saturating_mul(length(&cv.1));
    box_once(if limits::work(bytes) { Ok(cv.1) } else { Err(tick::stop()) })
}

/// Names and arities of what a person may call.
pub(crate) fn names() -> &'static [(&'static str, usize)] {
    static NAMES: OnceLock<Vec<(&'static str, usize)>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let natives = functions().map(|(name, args, _)| (name, args.len()));
        let all = natives.chain(definitions().iter().map(|it| (it.def.name, it.def.args.len())));
        let public = |(name, _): &(&str, usize)| !INTERNAL.contains(name) && !name.starts_with('!');
        let mut names: Vec<_> = all.filter(public).collect::<HashSet<_>>().into_iter().collect();
        names.sort_unstable();
        names
    })
}

/// Functions that jaq leaves to the type of values, and guarded ones in place of jaq's.
fn values() -> Box<[Filter<RunPtr<Data>>]> {
    Box::new([
        ("length", v(0), |cv| bome(cv.1.length())),
        ("tojson", v(0), |cv| bome(Ok(Val::string(cv.1.to_json())))),
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("tonumber", v(0), |cv| bome(to_number(cv.1))),
        ("contains", v(1), |cv| unary(cv, |whole, part| Ok(Val::from(whole.contains(&part))))),
        ("has", v(1), |cv| unary(cv, |value, key| Ok(Val::from(value.lookup(&key)?.is_some())))),
        ("indices", v(1), |cv| {
            unary(cv, |whole, part| Ok(whole.indices(&part)?.into_iter().map(Val::from).collect()))
        }),
        ("bsearch", v(1), |cv| unary(cv, |array, item| array.search(&item))),
        ("range", v(3), range),
        (CHARGE, v(1), charge),
    ])
}

fn from_json(value: &Val) -> Result<Val, Error<Val>> {
    let text = value.as_text()?;
    if !limits::work(text.len() as u64) {
        return Err(stopped());
    }
    match Outline::read(text) {
        Ok(outline) => Ok(Val::read(outline.root(text), text)),
        Err(error) => Err(Error::str(format_args!("cannot parse {value} as JSON: {error}"))),
    }
}

fn to_number(value: Val) -> Result<Val, Error<Val>> {
    let fail = |value: &Val| Error::str(format_args!("cannot parse {value} as number"));
    let Val::Str(text) = &value else {
        return if matches!(value, Val::Num(_)) { Ok(value) } else { Err(fail(&value)) };
    };
    let text = std::str::from_utf8(text).map_err(|_| fail(&value))?.trim();
    let plain = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    match jaq_json::read::parse_single_num(text.as_bytes()) {
        Some(_) if plain => Ok(Val::Num(crate::value::number(text))),
        _ => Err(fail(&value)),
    }
}

/// `range($from; $to; $by)` as jaq defines it, with a step for each output.
fn range(mut cv: Cv<'_, Data>) -> ValXs<'_, Val> {
    let (by, to, from) = (cv.0.pop_var(), cv.0.pop_var(), cv.0.pop_var());
    let zero = Val::from(0_isize);
    let mut next = Some(from);
    Box::new(std::iter::from_fn(move || {
        let current = next.take()?;
        let more = match by.cmp(&zero) {
            std::cmp::Ordering::Greater => current < to,
            std::cmp::Ordering::Less => current > to,
            std::cmp::Ordering::Equal => current != to,
        };
        if !more {
            return None;
        }
        if !limits::steps(1) {
            return Some(Err(tick::stop()));
        }
        match current.clone() + by.clone() {
            Ok(following) => next = Some(following),
            Err(error) => return Some(Err(Exn::from(error))),
        }
        Some(Ok(current))
    }))
}
