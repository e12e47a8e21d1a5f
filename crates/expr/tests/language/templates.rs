use crossdock_expr::{Document, EvalError, Failure, Program, Template, Tree};
use serde_json::json;

use super::{SCOPE, document};

const ORDER: &str = r#"{"id":12345678901234567890,"note":null,"items":[1],"name":"Ada & Co/KG","ok":true}"#;

fn template(text: &str) -> Template {
    Template::compile(text, &SCOPE).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn text(text: &str) -> Result<String, EvalError> {
    template(text).text(&document(ORDER), &[("event", &document(r#"{"key":"k-7"}"#))])
}

fn json(text: &str) -> String {
    let mut out = Vec::new();
    template(text).json(&document(ORDER), &[], &mut out).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn values_are_inserted_into_text() {
    assert_eq!(
        text("order ${ .id } of ${.name}: ${ .ok }").as_deref(),
        Ok("order 12345678901234567890 of Ada & Co/KG: true")
    );
    assert_eq!(text("${ $event.key }-${ .items | length }").as_deref(), Ok("k-7-1"));
    assert_eq!(text("").as_deref(), Ok(""));
}

#[test]
fn braces_of_the_jq_do_not_close_an_insert() {
    for (source, expected) in [
        ("${ {a: {b: 1}} | tojson }!", "{\"a\":{\"b\":1}}!"),
        ("${ \"}\" }!", "}!"),
        ("${ \"a\\(\"}\" + \"{\")\\\"}\" }!", "a}{\"}!"),
        ("${ 1 # not }\n }!", "1!"),
    ] {
        assert_eq!(text(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn a_dollar_before_an_insert_makes_it_text() {
    assert_eq!(text("$${ .id } ${ .ok }").as_deref(), Ok("${ .id } true"));
    assert_eq!(text("cost: $5 {x} $$ $").as_deref(), Ok("cost: $5 {x} $$ $"));
    assert!(template("$${ .id }").is_literal());
    assert!(template("plain").is_literal());
    assert!(!template("${ .id }").is_literal());
    assert_eq!(template("/a/${ .id }/$${ b }${ .c }").filled("x"), "/a/x/${ b }x");
}

#[test]
fn one_insert_alone_keeps_its_type() {
    assert_eq!(json("${ .id }"), "12345678901234567890");
    assert_eq!(json("${ .items }"), "[1]");
    assert_eq!(json("${ .note }"), "null");
    assert_eq!(json(" ${ .id }"), "\" 12345678901234567890\"");
    assert_eq!(json("a \"b\""), "\"a \\\"b\\\"\"");
    assert_eq!(json("${ .name }"), "\"Ada & Co/KG\"");
}

#[test]
fn null_arrays_and_objects_have_no_text() {
    for (source, found, expression) in [
        ("x ${ .note }", "null", " .note "),
        ("${ .note }", "null", " .note "),
        ("x ${.items}", "an array", ".items"),
        ("x ${ . }", "an object", " . "),
    ] {
        let error = text(source).expect_err(source);
        assert_eq!(
            error,
            EvalError { expression: expression.to_owned(), failure: Failure::NotText { found } }
        );
    }
    assert_eq!(text("x ${ empty }").expect_err("nothing").failure, Failure::NoOutput);
    assert_eq!(text("x ${ .note // \"\" }").as_deref(), Ok("x "));
}

#[test]
fn one_insert_without_a_value_is_no_text() {
    let optional =
        |source: &str| template(source).optional_text(&document(ORDER), &[]).map_err(|error| error.failure);
    assert_eq!(optional("${ .note }"), Ok(None));
    assert_eq!(optional("${ empty }"), Ok(None));
    assert_eq!(optional("${ .ok }"), Ok(Some("true".to_owned())));
    assert_eq!(optional("x${ .note }"), Err(Failure::NotText { found: "null" }));
}

#[test]
fn only_inserted_values_are_escaped() {
    let escape = |value: &str, out: &mut String| out.push_str(&value.replace('/', "%2F"));
    let path = template("/customers/${ .name }/orders").text_with(&document(ORDER), &[], escape);
    assert_eq!(path.as_deref(), Ok("/customers/Ada & Co%2FKG/orders"));
}

#[test]
fn an_error_has_its_place_in_the_text() {
    let error = Template::compile("é ${ .a } and ${ $evnt.x }", &SCOPE).expect_err("unknown variable");
    assert_eq!(&"é ${ .a } and ${ $evnt.x }"[error.span], "$evnt");
    let error = Template::compile("a ${ .b", &SCOPE).expect_err("not closed");
    assert_eq!((&*error.message, error.span), ("`${` is not closed by `}`", 2..4));
    let error = Template::compile("a ${}", &SCOPE).expect_err("empty");
    assert_eq!((&*error.message, error.span), ("the expression is empty", 4..4));
}

#[test]
fn a_tree_is_filled_in() {
    let map = json!({"id": "${ .id }", "n": 1, "who": ["${ .name }", null, "$${x}"], "a\"b": {"deep": "<${ .ok }>"}});
    let tree = Tree::compile(&map, &SCOPE).expect("correct");
    let mut out = Vec::new();
    tree.json(&document(ORDER), &[], &mut out).expect("filled in");
    let expected =
        r#"{"id":12345678901234567890,"n":1,"who":["Ada & Co/KG",null,"${x}"],"a\"b":{"deep":"<true>"}}"#;
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[test]
fn a_tree_can_be_one_program() {
    let tree = Tree::program(Program::compile("{id, n: (.items | length)}", &SCOPE).expect("correct"));
    let mut out = Vec::new();
    tree.json(&document(ORDER), &[], &mut out).expect("filled in");
    assert_eq!(String::from_utf8_lossy(&out), r#"{"id":12345678901234567890,"n":1}"#);
}

#[test]
fn an_error_in_a_tree_has_its_pointer() {
    let map = json!({"a": ["ok", {"b/c": "${ nope }"}]});
    let error = Tree::compile(&map, &SCOPE).expect_err("unknown function");
    assert_eq!((&*error.pointer, error.error.span), ("/a/1/b~1c", 3..7));
}

#[test]
fn a_tree_reads_its_documents_once() {
    let tree = Tree::compile(&json!(["${ .a }", "${ .a }", "${ $event.a }"]), &SCOPE).expect("correct");
    let made = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = made.clone();
    let lazy = Document::lazy(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bytes::Bytes::from_static(b"{\"a\":1}")
    });
    let mut out = Vec::new();
    tree.json(&lazy, &[("event", &document("{}"))], &mut out).expect("filled in");
    assert_eq!(&out[..], b"[1,1,null]");
    assert_eq!(made.load(std::sync::atomic::Ordering::Relaxed), 1);
}
