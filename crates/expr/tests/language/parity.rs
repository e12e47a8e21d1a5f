//! Our values and guards against jaq as it comes.

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars};
use jaq_json::Val;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::native::documents;
use super::{compile, document};

const PROGRAMS: [&str; 92] = [
    ".[]?",
    "..",
    "[..] | length",
    "keys?",
    "to_entries?",
    "objects | with_entries(.value |= tostring)",
    "map_values(.)?",
    "map(type)?",
    "[.[]?] | sort",
    "[.[]?] | sort_by(type)",
    "[.[]?] | group_by(type)",
    "[.[]?] | unique",
    "[.[]?] | unique_by(length)?",
    "[.[]?] | min, max",
    "[.[]?] | min_by(tojson), max_by(tojson)",
    "[.[]?] | add?",
    "[.[]?] | reverse",
    "[.[]?] | . - [1, \"a\", null]",
    "[.[]?] | index(1), rindex(1), indices(1)",
    "[.[]?] | indices([1, 2])",
    "[.[]?] | any, all",
    "[.[]?] | flatten",
    "[.[]?] | .[1:], .[:1], .[-1:], .[1:2], .[:-1]",
    "[.[]?] | first, last, nth(1)",
    "[.[]?] | contains([1])",
    "[.[]?] | inside([1, 2, 3, \"a\"])",
    "[.[]?] | bsearch(1)",
    "[.[]?] | transpose?",
    "[.[]?] | combinations?",
    "[paths]",
    "[paths(type == \"number\")]",
    "[path(..)]",
    "[getpath([\"a\", \"b\"])?]",
    "(try setpath([\"a\"]; 1) catch \"no\")",
    "(try del(.a) catch \"no\")",
    "(try delpaths([[\"a\"], [\"b\"]]) catch \"no\")",
    "(try (.a = 1) catch \"no\")",
    "(try (.a += 1) catch \"no\")",
    "(try (.a //= 1) catch \"no\")",
    "(try (.[0] |= 5) catch \"no\")",
    "(try (.[1:] |= [7, 8]) catch \"no\")",
    "(try (.[1:2] = \"x\") catch \"no\")",
    "(try (.[] |= empty) catch \"no\")",
    "(try (.. |= .) catch \"no\")",
    "walk(if type == \"number\" then . + 1 else . end)",
    "tostring",
    "tojson",
    "tojson | fromjson",
    "@text, @json, @html, @uri, @base64, (@sh?)",
    "@base64 | @base64d",
    "\"a\\(.)b\"",
    "@html \"<\\(.)>\"",
    "ascii_downcase?",
    "explode?",
    "(explode | implode)?",
    "(split(\"\"))?",
    "(split(\"a\"))?",
    "(. / \"a\")?",
    "(. * 3)?",
    "(. * 0)?",
    "(. + \"x\")?",
    "(ltrimstr(\"a\"), rtrimstr(\"a\"), startswith(\"a\"))?",
    "(test(\"a\"), [match(\"a\"; \"g\")], sub(\"a\"; \"b\"), gsub(\"(?<x>a)\"; \"<\\(.x)>\"))?",
    "[scan(\"[a-c]\")?]",
    "(capture(\"(?<x>[a-z])(?<n>[0-9])?\"))?",
    "(splits(\"a\"))?",
    "length?",
    "utf8bytelength?",
    "not",
    "has(\"a\")?",
    "has(0)?",
    "(. == 1), (. < 1), (. >= \"a\"), (. != null)",
    "isvalid(.)?, 1",
    "[limit(2; .[]?)], [skip(1; .[]?)], [first(.[]?)], [last(.[]?)]",
    "[range(3)], [range(1; 3)], [range(3; 0; -1)], [range(0; 1; 0.3)]",
    "reduce .[]? as $x (0; . + 1)",
    "[foreach .[]? as $x (0; . + 1; [., $x])]",
    "[label $out | .[]? | if . == 1 then break $out else . end]",
    "[.[]? as [$a, {b: $c}] ?// $a | $a]",
    "try error catch .",
    "try error(\"x\") catch .",
    "try (1 + {}) catch .",
    "try ({} | .[0] = 1) catch \"no\"",
    "[.[]? | numbers] | add",
    "[.[]? | numbers | floor, round, ceil, sqrt]",
    "[.[]? | numbers | . % 7, . / 7, . * 2.5, -.]",
    // Stock jaq takes `"0૦"` for 0: what follows the number is not read. Ours refuses it (see `programs.rs`).
    "[.[]? | strings | select(test(\"^ ?[1-9][0-9]*(e[0-9])? ?$\")) | tonumber]",
    "[.[]? | tostring | ascii_upcase] | join(\"-\")",
    "def f(g): [g, g]; f(.)",
    "def f($a; g): $a + g; f(1; 2)",
    "{a: 1, (\"b\", \"c\"): 2, \"d\\(1)\": 3, @json \"e\": 4}",
    "{a: 1, b: 2, c: (3, 4), d: 5, e: 6, f: 7, g: 8, h: 9, i: (10, 11), a: 12}",
];

const INPUTS: [&str; 22] = [
    "null",
    "true",
    "0",
    "-3",
    "2.5",
    "1.50",
    "1e3",
    "123456789012345678901234567890",
    "\"\"",
    "\"abcabc\"",
    "\"a1 é😀 <b> 'q' \\\"x\\\"\"",
    "\"42\"",
    "[]",
    "[1,2,3]",
    "[3,1,2,1,\"a\",null,true,1.0,[1],{\"a\":1}]",
    "[[1,2],[3]]",
    "[{\"a\":1,\"b\":2},{\"b\":1,\"a\":2},{\"a\":1}]",
    "[1,2,1,2,3]",
    "{}",
    "{\"a\":1,\"b\":[1,{\"c\":\"a\"}]}",
    "{\"b\":{\"a\":null},\"a\":{\"b\":7},\"a\":{\"b\":8}}",
    "[\"a\",\"b\",\"ab\",\"7\",\" 8 \",\"1e2\"]",
];

/// The outputs of stock jaq, up to the first error; `None` if it does not compile.
fn stock(source: &str, input: &str) -> Option<Vec<Result<String, String>>> {
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: source, path: () }).ok()?;
    let filter = Compiler::default().with_funs(functions).compile(modules).ok()?;
    let input = jaq_json::read::parse_single(input.as_bytes()).expect("the input is JSON");
    let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let outputs = filter.id.run((context, input)).map(jaq_core::unwrap_valr);
    Some(
        outputs
            .map(|output| output.map(|value| value.to_string()).map_err(|error| error.to_string()))
            .collect(),
    )
}

/// How our outputs differ from those of stock jaq; `None` if there is nothing to compare.
fn compare(source: &str, input: &str) -> Option<Result<(), String>> {
    let stock = stock(source, input)?;
    // jaq has keys that are not strings, and prints them; here they are refused.
    let is_json = |text: &String| serde_json::from_str::<&RawValue>(text).is_ok();
    if !stock.iter().flatten().all(is_json) {
        return None;
    }
    let ours = compile(source).jsons(&document(input), &[]);
    let same = match &ours {
        Ok(ours) => ours.iter().map(|text| Ok(String::from_utf8_lossy(text).into_owned())).eq(stock.clone()),
        Err(_) => stock.iter().any(Result::is_err),
    };
    Some(if same { Ok(()) } else { Err(format!("{source} of {input}: {ours:?} instead of {stock:?}")) })
}

#[test]
fn programs_give_what_stock_jaq_gives() {
    let pairs = PROGRAMS.iter().flat_map(|source| INPUTS.map(|input| (source, input)));
    let results: Vec<_> = pairs.filter_map(|(source, input)| compare(source, input)).collect();
    let differences: Vec<_> = results.iter().filter_map(|result| result.clone().err()).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(results.len() > 1_800, "only {} were compared", results.len());
}

proptest! {
    #[test]
    fn programs_give_what_stock_jaq_gives_for_any_document(
        source in prop::sample::select(&PROGRAMS[..]),
        input in documents(),
    ) {
        if let Some(result) = compare(source, &input) {
            prop_assert_eq!(result, Ok(()));
        }
    }
}
