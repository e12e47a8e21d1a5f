use std::sync::Arc;

use crossdock_expr::{CompileError, Document, Failure, Program, Template, Tree};
use proptest::prelude::*;
use serde_json::json;

use super::{SCOPE, compile, document, failure, json, refusal, value};

const ORDER: &str =
    r#"{"id":7,"total":12.5,"paid":false,"note":null,"items":[{"sku":"a"},{"sku":"b"}],"name":"Ada"}"#;

#[test]
fn everything_compiled_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Program>();
    shared::<Template>();
    shared::<Tree>();
    shared::<Document>();
    let program = Arc::new(compile("[.items[] | .sku] | join($event.key)"));
    let threads = (0..4).map(|_| {
        let program = program.clone();
        std::thread::spawn(move || program.text(&document(ORDER), &[("event", &document(r#"{"key":"+"}"#))]))
    });
    for thread in threads.collect::<Vec<_>>() {
        assert_eq!(thread.join().expect("no panic"), Ok(Some("a+b".to_owned())));
    }
}

#[test]
fn a_test_is_the_truth_of_the_first_output() {
    let test = |source| compile(source).test(&document(ORDER), &[]).expect(source);
    for source in [".id", ".total > 10", "0", "\"\"", "{}", ".id == 7", "true, false", ".paid == false"] {
        assert!(test(source), "{source}");
    }
    for source in [".paid", ".note", ".missing", "empty", "false, true", ".name.first?", ".id != 7"] {
        assert!(!test(source), "{source}");
    }
}

#[test]
fn a_value_is_the_first_output_and_none_is_a_failure() {
    assert_eq!(value(".items | map(.sku)", ORDER), json!(["a", "b"]));
    assert_eq!(value(".items[].sku", ORDER), json!("a"));
    assert_eq!(failure("empty", ORDER), Failure::NoOutput);
    assert_eq!(failure(".name.first?", ORDER), Failure::NoOutput);
}

#[test]
fn values_are_all_outputs() {
    let values = |source| compile(source).values(&document(ORDER), &[]).expect(source);
    assert_eq!(values(".items[]"), [json!({"sku": "a"}), json!({"sku": "b"})]);
    assert_eq!(values("empty"), Vec::<serde_json::Value>::new());
    assert_eq!(values(".note"), [json!(null)]);
}

#[test]
fn text_is_given_by_scalars_only() {
    let text = |source| compile(source).text(&document(ORDER), &[]).map_err(|error| error.failure);
    assert_eq!(text(".name"), Ok(Some("Ada".to_owned())));
    assert_eq!(text(".total"), Ok(Some("12.5".to_owned())));
    assert_eq!(text(".paid | not"), Ok(Some("true".to_owned())));
    assert_eq!(text(".note"), Ok(None));
    assert_eq!(text("empty"), Ok(None));
    assert_eq!(text(".items"), Err(Failure::NotText { found: "an array" }));
    assert_eq!(text(".items[0] | {a: .}"), Err(Failure::NotText { found: "an object" }));
}

#[test]
fn what_json_cannot_write_is_a_failure() {
    for source in ["nan", "infinite", "[1, infinite]", "-infinite | [.]"] {
        assert!(matches!(failure(source, "null"), Failure::Runtime { .. }), "{source}");
    }
    assert!(matches!(failure("{(1): 2}", "null"), Failure::Runtime { .. }));
}

#[test]
fn a_failure_names_the_expression() {
    let error = json("error(\"no stock\")", "null").expect_err("it fails");
    assert_eq!(error.to_string(), "failed to evaluate `error(\"no stock\")`");
    assert_eq!(error.failure, Failure::Runtime { message: "no stock".to_owned() });
}

#[test]
fn a_panic_in_jaq_is_a_failure() {
    if let Err(error) = json("[-9223372036854775808] | implode", "null") {
        assert!(matches!(error.failure, Failure::Runtime { .. }));
    }
}

#[test]
fn zero_padded_numbers_are_numbers() {
    assert_eq!(json("tonumber", "\" 0042 \"").as_deref(), Ok("42"));
    assert_eq!(json("tonumber", "\"-1.50\"").as_deref(), Ok("-1.50"));
    for text in ["\"\"", "\"abc\"", "\"1 2\"", "\"nan\"", "\"[1]\"", "[]", "\"Infinity\"", "\"1e\"", "\"0૦\""]
    {
        assert!(matches!(failure("tonumber", text), Failure::Runtime { .. }), "{text}");
    }
}

#[test]
fn rows_can_be_written() {
    assert_eq!(value("@csv", r#"["a\"b",1.5,true,null]"#), json!("\"a\"\"b\",1.5,true,"));
    assert_eq!(value("@tsv", r#"["a\tb\\",1,null]"#), json!("a\\tb\\\\\t1\t"));
    assert!(matches!(failure("@csv", "{}"), Failure::Runtime { .. }));
}

#[test]
fn the_place_in_the_source_is_known() {
    assert_eq!(value("1 |\n $__loc__", "null"), json!({"file": "<top-level>", "line": 2}));
}

#[test]
fn an_unknown_variable_says_what_is_allowed() {
    let error = refusal(".a + $evnt.type");
    let help = "allowed here: `.`, `$event`, `$config`; did you mean `$event`?";
    assert_eq!(
        error,
        CompileError { message: "unknown variable `$evnt`".into(), span: 5..10, help: Some(help.into()) }
    );
    assert_eq!(refusal("$x").help.as_deref(), Some("allowed here: `.`, `$event`, `$config`"));
}

#[test]
fn an_unknown_function_says_which_is_near() {
    let error = refusal(".a | ascii_downcas");
    assert_eq!((&*error.message, error.span), ("unknown function `ascii_downcas`", 5..18));
    assert_eq!(error.help.as_deref(), Some("did you mean `ascii_downcase`, which takes no argument?"));
    let error = refusal("split");
    assert_eq!(error.message, "`split` does not take no argument");
    assert_eq!(error.help.as_deref(), Some("it takes 1 or 2"));
    assert_eq!(refusal("frobnicate(1)").help, None);
}

#[test]
fn what_reaches_outside_is_refused() {
    for (source, name) in [
        (".a | input", "input"),
        ("[inputs]", "inputs"),
        ("$ENV.HOME", "$ENV"),
        ("env.HOME", "env"),
        ("debug", "debug"),
        ("debug(\"x\")", "debug"),
        ("stderr", "stderr"),
        ("halt", "halt"),
        ("halt_error", "halt_error"),
        ("halt_error(1)", "halt_error"),
        ("input_filename", "input_filename"),
        ("input_line_number", "input_line_number"),
        ("$__prog_args", "$__prog_args"),
        ("get_search_list", "get_search_list"),
        ("localtime", "localtime"),
        ("strflocaltime(\"%H\")", "strflocaltime"),
        ("import \"a\" as a; a::b", "import"),
        ("include \"a\"; b", "include"),
    ] {
        let error = refusal(source);
        assert_eq!(error.message, format!("`{name}` is not available here"));
        assert_eq!(&source[error.span], name);
        assert!(error.help.is_some());
    }
    assert_eq!(value("def env: 1; env", "null"), json!(1));
}

#[test]
fn a_syntax_error_has_its_place() {
    for (source, message, span) in [
        ("", "the expression is empty", 0..0),
        ("  ", "the expression is empty", 0..2),
        (".a |", "expected term, but the program ends", 4..4),
        (".a )", "this is not part of the jq language", 3..4),
        (".a b", "unexpected `b`", 3..4),
        ("[1, 2", "expected closing bracket", 5..5),
        ("if . then 1", "expected else or end, but the program ends", 11..11),
        ("\"abc", "expected closing quote", 4..4),
        ("{a: 1", "expected closing brace", 5..5),
        ("foo::bar", "`foo` is a module, which is not available here", 0..3),
        ("break $out", "`$out` is not a label around this", 6..10),
        ("reduce . as $x (0)", "`reduce` does not take 1 argument", 0..6),
    ] {
        let error = refusal(source);
        assert_eq!((&*error.message, error.span), (message, span), "{source}");
    }
}

#[test]
fn a_variable_that_nobody_gave_is_a_failure_and_one_not_used_is_not() {
    let program = compile("$event.type | length");
    let error = program.value(&document("null"), &[]).expect_err("no event");
    assert_eq!(error.failure, Failure::Runtime { message: "`$event` has no value here".to_owned() });
    let broken = document("not JSON");
    assert!(compile(". | length").value(&document("null"), &[("event", &broken)]).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,40}", input in "\\PC{0,10}") {
        let _ = Template::compile(&text, &SCOPE).map(|template| template.text(&document(&input), &[]));
        let _ = Program::compile(&text, &SCOPE).map(|program| program.value(&document(&input), &[]));
    }

    #[test]
    fn text_made_of_jq_never_panics(parts in prop::collection::vec(prop::sample::select(PARTS), 1..16)) {
        let source = parts.concat();
        match Program::compile(&source, &SCOPE) {
            Ok(program) => drop(program.values(&document(ORDER), &[("event", &document("{}")), ("config", &document("{}"))])),
            Err(error) => prop_assert!(source.get(error.span.clone()).is_some(), "{:?}", error),
        }
        let text = format!("a${{{source}}}b");
        match Template::compile(&text, &SCOPE) {
            Ok(template) => drop(template.text(&document(ORDER), &[])),
            Err(error) => prop_assert!(text.get(error.span.clone()).is_some(), "{:?}", error),
        }
    }
}

const PARTS: &[&str] = &[
    ".",
    "..",
    ".a",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "|",
    ",",
    ":",
    ";",
    "?",
    "//",
    "=",
    "|=",
    "+=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "<",
    " and ",
    " or ",
    " as $x ",
    "$x",
    "$event",
    "$__loc__",
    "\"",
    "\"a\"",
    "\\(",
    "1",
    "0.5",
    "1e9",
    "@base64 ",
    "if ",
    " then ",
    " else ",
    " end ",
    "try ",
    " catch ",
    "reduce ",
    "foreach ",
    "label $l ",
    "break $l ",
    "def f: ",
    "def g(h): ",
    "f",
    "g(",
    "h",
    "map(",
    "range(9)",
    "limit(3;",
    "path(",
    "sort",
    "error",
    "#",
    "\n",
    " ",
    "${",
    "é",
    "null",
    "[]",
    "length",
    "implode",
    "tojson",
    "fromjson",
    "ltrimstr(",
    "test(",
    "getpath(",
    "recurse",
    "repeat(",
    "splits(",
    "strftime(",
    "mktime",
    "gmtime",
    "todate",
    "-9223372036854775808",
    "9223372036854775807",
    "significand",
    "ldexp(",
    "nan",
    "infinite",
    "combinations",
];
