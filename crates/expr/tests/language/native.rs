use crossdock_expr::{Failure, Program};
use proptest::prelude::*;
use serde_json::Value;

use super::{SCOPE, compile, document, failure, json};

#[test]
fn paths_and_comparisons_run_without_jq() {
    for source in [
        ".",
        ".a.b",
        ".a[\"b-c\"]",
        ".a.\"b-c\"",
        ".[\"a\"]?",
        ".items[0].sku",
        ".items[-1]",
        ".a?.b?",
        "$event.type",
        "$event",
        "$event.type == \"order.created\"",
        "\"order.created\" == $event.type",
        ".n != -1.5",
        ".a == null and $event.type != \"x\" or .b == true",
        ".active and .n == 1",
    ] {
        assert!(compile(source).is_native(), "{source}");
    }
    for source in
        [".[]", ".a[1:2]", ".a == .b", "1 == 1", ".a | .b", "(.a, .b)", ".a // 1", ".a < 1", "not", ".[.i]"]
    {
        assert!(!compile(source).is_native(), "{source}");
    }
}

#[test]
fn a_missing_field_is_null_as_in_jq() {
    assert_eq!(json(".a.b.c", "{}").as_deref(), Ok("null"));
    assert_eq!(json(".a[3]", "{\"a\":[1]}").as_deref(), Ok("null"));
    assert_eq!(json(".a", "null").as_deref(), Ok("null"));
    assert_eq!(json(".[0]", "{}").as_deref(), Ok("null"));
}

#[test]
fn indexing_a_scalar_is_the_error_that_jq_gives() {
    let message = |source: &str| match failure(source, r#"{"a":"text","b":[1],"c":"7"}"#) {
        Failure::Runtime { message } => message,
        other => panic!("{other:?}"),
    };
    for (path, error) in [
        (".a.b", r#"cannot index "text" with "b""#),
        (".b.b", r#"cannot index [1] with "b""#),
        (".a[0]", r#"cannot index "text" with 0"#),
    ] {
        assert_eq!(message(path), error);
        assert_eq!(message(&format!(". | {path}")), error, "in jq");
    }
}

#[test]
fn a_copied_value_keeps_its_text() {
    for number in
        ["12345678901234567890", "-0", "1e999", "1.50", "1E+2", "0.1000000000000000055511151231257827"]
    {
        let input = format!("{{\"n\": {number} }}");
        assert_eq!(json(".n", &input).as_deref(), Ok(number));
        if number != "-0" {
            assert_eq!(json("[.n] | .[0]", &input).as_deref(), Ok(number), "through jq");
        }
    }
    assert_eq!(json("[.n] | .[0]", "{\"n\":-0}").as_deref(), Ok("0"));
    let text = "{ \"a\" : [ 1 , \"\\u00e9\" ] }";
    assert_eq!(json(".", text).as_deref(), Ok(text));
}

#[test]
fn a_long_message_is_cut() {
    let Failure::Runtime { message } = failure(". | .a", &format!("\"{}\"", "x".repeat(10_000))) else {
        panic!("not a runtime failure");
    };
    assert_eq!(message.chars().count(), 201);
}

#[test]
fn a_document_that_is_not_json_fails_only_programs_that_read_it() {
    for source in [
        "$event.type",
        "$event.type | ascii_upcase",
        "\"\\($event.key)\"",
        "{key: $event.key}",
        "[1, 2] | add",
    ] {
        json(source, "<order/>").unwrap_or_else(|error| panic!("{source}: {error:?}"));
    }
    for source in
        [".", ".a", ".a == 1", "map(.)", "length", "{a}", "[.[]]", "$event.type + .a", "if .a then 1 end"]
    {
        assert!(matches!(failure(source, "<order/>"), Failure::NotJson { .. }), "{source}");
    }
}

pub fn documents() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(|float| format!("{float:?}")),
        Just("0".to_owned()),
        Just("-0".to_owned()),
        Just("1.0".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just("1e400".to_owned()),
    ];
    let word = prop_oneof!["[abc]{0,2}", "\\PC{0,4}"].prop_map(|text| Value::String(text).to_string());
    let escaped = Just("\"\\u0061\"".to_owned());
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number,
        word,
        escaped
    ];
    scalar.prop_recursive(4, 40, 4, |inner| {
        let key = prop_oneof!["[abc]".prop_map(|key| format!("{key:?}")), Just("\"\\u0061\"".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec((key, inner), 0..4).prop_map(|fields| {
                let fields = fields.into_iter().map(|(key, value)| format!("{key} :{value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn paths() -> impl Strategy<Value = String> {
    let step = prop_oneof!["\\.[abc]", "\\[\"[abc]\"\\]", "\\[-?[0-3]\\]"];
    let step =
        (step, prop::bool::weighted(0.2)).prop_map(|(step, optional)| step + if optional { "?" } else { "" });
    (prop::bool::weighted(0.2), prop::collection::vec(step, 0..4)).prop_map(|(variable, steps)| {
        let steps = steps.concat();
        match (variable, steps.starts_with('.')) {
            (true, _) => format!("$event{steps}"),
            (false, true) => steps,
            (false, false) => format!(".{steps}"),
        }
    })
}

fn conditions() -> impl Strategy<Value = String> {
    let literal = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("0".to_owned()),
        Just("1.0".to_owned()),
        Just("-1".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        "\"[abc]{0,2}\"",
    ];
    let compare = (paths(), prop_oneof![Just("=="), Just("!=")], literal);
    let compare = compare.prop_map(|(path, op, literal)| format!("{path} {op} {literal}"));
    compare.prop_recursive(3, 6, 2, |inner| {
        let operand = prop_oneof![3 => inner.prop_map(|inner| format!("({inner})")), 1 => paths()];
        (operand.clone(), prop_oneof![Just("and"), Just("or")], operand)
            .prop_map(|(left, op, right)| format!("{left} {op} {right}"))
    })
}

/// What a program gives, with numbers as jq writes them.
fn outcome(program: &Program, input: &str) -> Result<Option<String>, Failure> {
    let (input, event) = (document(input), document(input));
    let texts = program.jsons(&input, &[("event", &event)]).map_err(|error| error.failure)?;
    let text = texts.first().map(|text| String::from_utf8(text.to_vec()).expect("JSON is UTF-8"));
    Ok(text.map(|text| json("[.] | .[0]", &text).expect("JSON")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn native_programs_give_what_jq_gives(
        source in prop_oneof![paths(), conditions()],
        inputs in prop::collection::vec(documents(), 8),
    ) {
        let native = Program::compile(&source, &SCOPE).expect("generated programs are correct");
        let jq = Program::compile(&format!(". | ({source})"), &SCOPE).expect("and so in jq");
        prop_assert!(native.is_native() && !jq.is_native(), "{}", source);
        for input in inputs {
            let (native, jq) = (outcome(&native, &input), outcome(&jq, &input));
            match (&native, &jq) {
                // The message of the native one quotes less of the value, and quotes it as it stands.
                (Err(Failure::Runtime { .. }), Err(Failure::Runtime { .. })) => {}
                _ => prop_assert_eq!(native, jq, "{} of {}", source, input),
            }
        }
    }
}
