use std::time::{Duration, Instant};

use crossdock_expr::{Failure, Limit, Program};

use super::{SCOPE, document, failure, json};

/// Programs that never end, or only after ages, or need all memory, in the ways that jq offers.
const ENDLESS: [&str; 40] = [
    "def f: f; f",
    "def f: 1 + f; f",
    "def f: [f]; f",
    "def f: {a: f}; f",
    "def f: f | f; f",
    "def f: f, f; f",
    "def f: f + f; f",
    "def f: def g: f; g; f",
    "def f: try f catch f; f",
    "def f: (try error(1) catch .) | f; f",
    "def f: f?; f",
    "def f: f // 1; f",
    "def f: first(f); f",
    "def f: . as $x | [f]; f",
    "def f(x): f(x + 1); f(0)",
    "def f(x): f(x | x); f(. + 1)",
    "def f(x): def g(y): f(y | x); g(x); f(1)",
    "def f(x): x | f(x); f(.)",
    "def f($x): f($x + 1); f(0)",
    "def f: reduce 1 as $x (0; f); f",
    "def f: {} | .a |= f; f",
    "last(repeat(1))",
    "last(repeat(empty))",
    "last(range(1000000000000000000))",
    "[range(1000000000000000000)]",
    "last(range(0; 1; 0))",
    "[limit(1000000000000; repeat(1))]",
    "until(false; .)",
    "until(false; try error(1) catch .)",
    "last(recurse(.))",
    "last(null | recurse(.a))",
    "last(null | path(recurse(.a)))",
    "[while(true; .)] | length",
    "last(label $out | repeat(1))",
    "\"x\" * 10000000000",
    "reduce range(100) as $i (\"x\"; . + .)",
    "reduce range(100) as $i (\"x\"; \"\\(.)\\(.)\")",
    "reduce range(100) as $i ([1]; . + .)",
    "reduce range(100) as $i (1; [., .]) | tojson | length",
    "reduce range(90000) as $i (1; [.])",
];

/// Programs that would take far too long or too much, though they end.
const HUGE: [&str; 13] = [
    "null | path(getpath([range(90000) | \"a\"]))",
    "reduce range(90000) as $i ({}; .a = .)",
    "reduce range(90000) as $i ({}; {a: .})",
    "[range(100000)] | map([range(100000)])",
    "last((1, 2) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .)
        | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .) | (., .))",
    "[range(50000) | \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" * 1000]",
    "[limit(30; repeat((1, 2)))] | [., ., ., .] | combinations | select(false)",
    "[range(1000)] as $a | last($a[] | $a[] | $a[] | select(false))",
    "[range(1000)] as $a | last($a[]? | $a[]? | $a[]? | select(false))",
    "[range(1000)] as $a | $a | map(. as $x | $a | sort_by($a | sort_by($a | sort_by($x))))",
    "[1] | combinations(1000000000)",
    "(\"a\" * 1000000) | test(\"a*a*a*a*a*a*a*a*a*b\" * 1000)",
    "[range(300000)] | sort | length",
];

#[test]
fn endless_programs_are_stopped() {
    for source in ENDLESS {
        stops_soon(source);
    }
}

#[test]
fn huge_programs_are_stopped() {
    for source in HUGE {
        stops_soon(source);
    }
}

/// A debug build takes ten times as long as what is meant, which is a second.
fn stops_soon(source: &str) {
    let start = Instant::now();
    let failure = failure(source, "null");
    assert!(matches!(failure, Failure::StepLimit { .. }), "{source}: {failure:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "{source} took {:?}", start.elapsed());
    println!("{:>8.1?} {source}", start.elapsed());
}

#[test]
fn an_endless_program_is_stopped_on_the_small_stack_of_a_worker() {
    for source in ["def f: 1 + f; f", "def f: [f]; f", "def f: {} | .a |= f; f", "def f(x): f(x + 1); f(0)"] {
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || failure(source, "null"));
        let failure = thread.expect("a thread").join().expect("no panic");
        assert!(matches!(failure, Failure::StepLimit { .. }), "{source}: {failure:?}");
    }
}

#[test]
fn try_cannot_catch_a_limit() {
    for source in [
        "try last(repeat(1)) catch 7",
        "[.[]?, (def f: f; f)?]",
        "(def f: f; f) // 1",
        "(repeat(1) | select(. == 2)) // 5",
        "first(range(1; 1000000000) | select(. < 0)) // \"none\"",
        "any(repeat(1); . == 2)",
        "isempty(repeat(empty))",
        "label $out | (repeat(1) | select(. == 2) | break $out)",
        "try (\"x\" * 10000000000) catch 7",
        "[limit(5; (\"x\" * 10000000000)?, 1)]",
    ] {
        let failure = failure(source, "null");
        assert!(matches!(failure, Failure::StepLimit { .. }), "{source}: {failure:?}");
    }
}

#[test]
fn honest_work_is_within_the_limits() {
    let items = (0..2_000).map(|i| format!(r#"{{"sku":"s-{i}","quantity":{i},"tags":["a","b"]}}"#));
    let order = format!("{{\"items\":[{}]}}", items.collect::<Vec<_>>().join(","));
    for source in [
        "[.items[] | select(.quantity > 10) | {sku, n: (.quantity * 2)}] | length",
        "reduce .items[] as $i ({}; . + {($i.sku): $i.quantity}) | length",
        "reduce .items[] as $i (0; . + $i.quantity)",
        "[.. | numbers] | add",
        "walk(if type == \"string\" then ascii_upcase else . end) | .items | length",
        "[range(20000)] | map(. + 1) | add",
        "def fac: if . <= 1 then 1 else . * (. - 1 | fac) end; 20 | fac",
        "def walk2(f): . as $in | if type == \"object\" then reduce keys[] as $k ({}; . + {($k): ($in[$k] | walk2(f))}) | f
            elif type == \"array\" then map(walk2(f)) | f else f end; walk2(.) | .items | length",
        "def f(x): if . > 50 then x else . + 1 | f(x) end; 0 | f(.)",
    ] {
        json(source, &order).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    }
}

#[test]
fn a_deep_document_is_refused_without_a_deep_stack() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for source in [".", ".[0]", ".[0] == 1", "map(.)"] {
        let deep = deep.clone();
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || failure(source, &deep));
        let failure = thread.expect("a thread").join().expect("no panic");
        assert!(matches!(failure, Failure::NotJson { .. }), "{source}: {failure:?}");
    }
    let text = format!("\"{deep}\"");
    assert!(matches!(failure("fromjson", &text), Failure::Runtime { .. }));
}

#[test]
fn a_document_as_deep_as_allowed_can_be_walked() {
    let deep = "[".repeat(120) + &"]".repeat(120);
    assert_eq!(json("[..] | length", &deep).as_deref(), Ok("120"));
    assert_eq!(json("tojson | fromjson | . == $__loc__", &deep).as_deref(), Ok("false"));
    assert_eq!(json("[getpath([range(119) | 0])] | length", &deep).as_deref(), Ok("1"));
}

#[test]
fn a_deep_program_is_refused_or_runs() {
    for source in [
        "-".repeat(60_000) + "1",
        "(".repeat(30_000) + "1" + &")".repeat(30_000),
        "[".repeat(30_000) + &"]".repeat(30_000),
        "try ".repeat(15_000) + "1",
        "{a:".repeat(15_000) + "1" + &"}".repeat(15_000),
        "\"\\(".repeat(15_000) + "1" + &")\"".repeat(15_000),
        "1".to_owned() + &"|1".repeat(30_000),
        "1".to_owned() + &" as $x|1".repeat(6_000),
        "1".to_owned() + &"+1".repeat(30_000),
        "1".to_owned() + &",1".repeat(30_000),
        "if 1 then ".repeat(6_000) + "1" + &" end".repeat(6_000),
        "def f: ".repeat(5_000) + "1" + &"; 1".repeat(5_000),
        "reduce ".repeat(9_000),
        ". as ".to_owned() + &"[".repeat(9_000) + "$x" + &"]".repeat(9_000) + " | 1",
    ] {
        // Neither compiling nor running it overflows the stack, which would abort the tests.
        if let Ok(program) = Program::compile(&source, &SCOPE) {
            assert!(program.value(&document("null"), &[]).is_ok());
        }
    }
}

#[test]
fn a_program_may_be_nested_deeply_within_reason() {
    for source in [
        "-".repeat(99) + " 1",
        "1".to_owned() + &"|.+1".repeat(100),
        "1".to_owned() + &" as $x|$x".repeat(50),
    ] {
        json(&source, "null").unwrap_or_else(|error| panic!("{source}: {error:?}"));
    }
}

#[test]
fn a_long_list_or_object_is_not_a_deep_program() {
    let list = format!("[{}] | length", (0..5_000).map(|i| i.to_string()).collect::<Vec<_>>().join(","));
    assert_eq!(json(&list, "null").as_deref(), Ok("5000"));
    let fields = (0..2_000).map(|i| format!("k{i}: .a")).collect::<Vec<_>>().join(",");
    assert_eq!(json(&format!("{{{fields}}} | length"), "{}").as_deref(), Ok("2000"));
    let text = (0..1_000).map(|_| "\\(.a)").collect::<String>();
    assert_eq!(json(&format!("\"{text}\" | length"), r#"{"a":"xy"}"#).as_deref(), Ok("2000"));
}

#[test]
fn a_long_path_or_a_deep_regular_expression_does_not_overflow_the_stack() {
    for source in [
        "{} | setpath([range(50000) | \"a\"]; 1)",
        "{} | delpaths([[range(50000) | \"a\"]])",
        "{} | (reduce range(50000) as $i (.; .a?)) |= 1",
        "[[]] | (reduce range(50000) as $i (.; .[0]?)) |= 1",
        "{a: 1} | (foreach range(50000) as $i (.; .a?)) |= 1",
        "{} | getpath([range(50000) | \"a\"])",
        "[paths(..)] | [limit(50000; repeat(1))] | to_entries | from_entries",
    ] {
        let _ = json(source, "null");
    }

    for pattern in ["(", "(?:", "[", "(?i:a|", "a{2}", "(a*)*", "(?<x>"] {
        let source = format!("(\"{pattern}\" * 20000 + \"a\" + \")\" * 20000) as $re | \"a\" | test($re)");
        let _ = json(&source, "null");
    }
}

#[test]
fn a_limit_is_named() {
    assert_eq!(failure("def f: f; f", "null"), Failure::StepLimit { limit: Limit::Steps });
    assert_eq!(failure("def f: [f]; f", "null"), Failure::StepLimit { limit: Limit::Depth });
    assert_eq!(failure("\"x\" * 10000000000", "null"), Failure::StepLimit { limit: Limit::Work });
}
