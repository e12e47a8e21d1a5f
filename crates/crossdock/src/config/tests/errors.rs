//! What people read when something is wrong.

use super::{super::Look, load};

/// Two connections and one flow that are right; `more` is added to them.
const AROUND: &str = r#"connections:
  github: { connector: github, config: { secret: "${env.TOKEN}" } }
  tracker: { connector: http, config: { base_url: "http://127.0.0.1:9001" } }
flows:
  all:
    from: { connection: github }
    to: { connection: tracker, action: post, path: /all }
"#;

/// The problems of a text, as they look in a pipe.
pub fn problems(text: &str) -> String {
    match load(text) {
        Ok(loaded) => loaded.warnings.render(Look::Ascii),
        Err(problems) => problems.render(Look::Ascii),
    }
}

/// The problems of the flow `all` with these lines more.
fn flow(lines: &str) -> String {
    problems(&format!("{AROUND}{lines}"))
}

/// The problems of a text for the connectors of the program, as they look in a pipe.
fn real_problems(text: &str) -> String {
    let whsec = |name: &str| super::environment(name).map(|_| "whsec_dG9vLXNob3J0".to_owned());
    let connectors = crate::connectors::connectors();
    match super::load_text("conf/crossdock.yaml".as_ref(), text, &whsec, &connectors) {
        Ok(loaded) => loaded.warnings.render(Look::Ascii),
        Err(problems) => problems.render(Look::Ascii),
    }
}

macro_rules! shows {
    ($($(#[$doc:meta])* $name:ident: $problems:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
                insta::assert_snapshot!(stringify!($name), $problems);
            });
        })*
    };
}

shows! {
    unknown_fields_name_the_nearest_and_what_is_allowed: flow("    filtr: .a\nlisen: 127.0.0.1:1\n");
    unknown_names_name_the_nearest_and_what_is_there: problems(r#"
connections:
  tracker: { connector: htp, config: {} }
  github: { connector: github, config: { secret: "${env.TOKEN}" } }
  crm: { connector: http, config: { base_url: "http://127.0.0.1" } }
flows:
  a: { from: { connection: githb }, to: { connection: trackr, action: post } }
  b: { from: { connection: github }, to: { connection: crm, action: pst, path: / } }
"#);
    an_unknown_variable_is_found_inside_plain_text: flow("    filter: $evnt.type == \"a\"\n");
    an_unknown_variable_is_found_inside_quoted_text: flow("    map: { title: \"#${.a}: ${$evnt.type}\" }\n");
    an_unknown_variable_is_found_inside_a_block: flow("    map: |\n      { id: .id,\n        kind: $evnt.type }\n");
    wrong_jq_is_told_with_its_place: flow("    key: .customer[.id\n    filter: .a | upper_case\n    map: [ \"${.a\" ]\n");
    the_environment_is_not_there_in_expressions: flow("    map: { token: \"${env.TOKEN}\" }\n");
    wrong_types: problems(r#"
topics: orders
partitions: many
limits: [1]
connections: { a: 5, crm: { connector: http, config: { base_url: [], gzip: yes, redirects: -1, headers: x, success: "200", style: structred } } }
flows:
  a: { from: crm, to: [], filter: { a: b }, key: , map: , order: keys, retry: 5 }
"#);
    missing_variables_are_told_for_each_place: problems(r#"
token: "${env.HUB_TOKEN}"
data: "${env.ROOT}/hub-${env.STAGE}"
listen: 127.0.0.1:${env.PORT:8080}
connections:
  github: { connector: github, config: { secret: "${env.GITHUB_SECRET}" } }
"#);
    what_is_no_reference_is_told: problems(r#"
connections:
  github: { connector: github, config: { secret: "${secret.GITHUB}" } }
  tracker: { connector: http, config: { base_url: "http://${.host}/${env.HOST" } }
"#);
    literal_secrets_are_refused_and_never_shown: problems(r#"
token: tellnobody
connections:
  github: { connector: github, config: { secret: "${env.GITHUB_SECRET:tellnobody}", secrt: 1 } }
  tracker: { connector: http, config: { base_url: http://127.0.0.1, secret_headers: { Authorization: Bearer tellnobody } } }
"#);
    keys_that_are_written_twice: problems(&format!("{AROUND}  all:\n    from: {{ topic: a, topic: b }}\n"));
    wrong_durations_sizes_and_rates: problems(r#"
retention: 7
dedupe_window: 1w
limits: { body: 1MB, data: 15MiB, rate: 1000 }
connections: { crm: { connector: http, circuit: { over: 10, pause: 2m }, config: { base_url: http://a, timeout: 5 seconds } } }
flows:
  a:
    from: { topic: orders }
    to: { connection: crm, action: post, path: / }
    retry: { schedule: [200ms, 1], jitter: 20%, max_age: 1.5h, max_attempts: 0, retry_after_max: ten }
  b:
    from: { topic: orders }
    to: { connection: crm, action: post, path: / }
    retry: { schedule: { expnential: { initial: 1s } } }
  c:
    from: { topic: orders }
    to: { connection: crm, action: post, path: / }
    retry: { schedule: { exponential: { initial: 1h, factor: 0, max: 1m } } }
"#);
    wrong_addresses: problems(r#"
listen: 8080
allowed_hosts: ["https://hub.example.com/"]
connections:
  a: { connector: http, config: { base_url: crm.example.com } }
  b: { connector: http, config: { base_url: "ftp://crm.example.com" } }
  c: { connector: http, config: { base_url: "https://me:word@crm.example.com" } }
  d: { connector: http, config: { base_url: "${env.WORDS}" } }
  e: { connector: http, config: { base_url: "http://forbidden.test" } }
"#);
    what_could_work_with_no_event: real_problems(r#"
connections:
  tracker: { connector: http, config: { base_url: "https://api.example/v1" } }
flows:
  a:
    from: { topic: orders }
    to:
      connection: tracker
      action: post
      path: //evil.example/${.id}
      query: { any name: "any text ü" }
      headers: { authorization: "Bearer ${.token}", Host: x, webhook-id: x, "x y": 1, x-name: "Müller ${.id}", x-right: "${.name}" }
  b: { from: { topic: orders }, to: { connection: tracker, action: post, path: "/a/../${.id}" } }
  c: { from: { topic: orders }, to: { connection: tracker, action: put, path: "/a b" } }
  d: { from: { topic: orders }, to: { connection: tracker, action: put, path: "/${.a}/${.b}?c=${.d}" } }
"#);
    what_a_connection_cannot_do: real_problems(r#"
connections:
  slow: { connector: http, config: { base_url: "https://api.example", timeout: 11m } }
  short: { connector: http, config: { base_url: "https://api.example", signing_secret: "${env.TOKEN}" } }
  in: { connector: standard-webhooks, config: { secret: "${env.TOKEN}" } }
  header: { connector: http, config: { base_url: "https://api.example", headers: { Host: x } } }
"#);
    what_must_be_there: problems(r#"
connections:
  github: { connector: github }
  tracker: { connector: http, config: { gzip: true } }
  nothing: {}
flows:
  a: { from: { connection: github } }
  b: { to: { connection: tracker } }
  c: { from: { topic: x }, to: { connection: tracker, action: request, path: / } }
"#);
    what_does_not_fit_together: problems(r#"
listen: 0.0.0.0:8080
topics: [in.github, orders, orders]
connections:
  github: { connector: github, config: { secret: "${env.TOKEN}" } }
  tracker: { connector: http, config: { base_url: "http://127.0.0.1" } }
flows:
  a: { from: { connection: tracker }, to: { connection: github, action: post } }
  b: { from: { topic: in.github }, to: { connection: tracker, action: post, path: / } }
  c: { from: { topic: a, connection: github }, to: { connection: tracker, action: post, path: / } }
  d: { from: {}, to: { connection: tracker, action: request, path: /, method: GET } }
  e: { from: { topics: [] }, to: { connection: tracker, action: request, path: /, method: "${.method}" } }
"#);
    names_have_letters_digits_and_a_few_signs: problems(
        "topics: [a/b]\nconnections: { 'a b': { connector: github, config: { secret: '${env.TOKEN}' } } }\nflows: { ä: {} }\n"
    );
    numbers_that_may_be_text_must_be_quoted: flow("    map: { zip: 01234, plus: +5, version: 1.2.3, hex: 0x1F, big: 1e3 }\n");
    what_has_no_effect_is_a_warning: problems(r#"
connections:
  github: { connector: github, config: { secret: "${env.TOKEN}" } }
  tracker: { connector: http, config: { base_url: "http://127.0.0.1" } }
flows:
  a: { from: { topic: x }, to: { connection: tracker, action: post, path: / }, retry: { schedule: [1s, 1h], max_age: 5m } }
  b: { from: { topic: x }, to: { connection: tracker, action: post, path: / }, retry: { schedule: [1s, 1h], max_attempts: 2 } }
"#);
    a_file_without_anything_is_empty: problems("# nothing yet\n\n") + &problems("") + &problems("~\n");
    a_topic_that_no_flow_reads_is_a_warning: problems(r#"
topics: [orders, refunds, invoices]
connections:
  tracker: { connector: http, config: { base_url: "http://127.0.0.1" } }
flows:
  a: { from: { topics: [order, invoices] }, to: { connection: tracker, action: post, path: / } }
"#);
    anchors_are_refused: problems("flows: &flows\n  a: 1\n");
    aliases_are_refused: problems("topics: [a]\nconnections: *flows\n");
    merge_keys_are_refused: problems("flows:\n  <<: { a: 1 }\n");
    tags_are_refused: problems("data: !secret x\n");
    a_second_document_is_refused: problems("data: x\n---\ndata: y\n");
    unbalanced_brackets_are_told: problems("flows: { a: [1, 2 }\n");
    text_with_a_colon_needs_quotes: flow("    filter: .a | {b: .c}\n");
    tabs_are_told: problems("flows:\n\ta: 1\n");
    nesting_has_a_limit: problems(&"[".repeat(100));
    bare_paths_in_a_tree_are_a_warning: flow("    map: { id: .id, at: $event.time, ext: .5, text: \".id\" }\n");
    expressions_need_no_braces: flow("    filter: ${.a == 1}\n");
    a_missing_file_names_the_remedy:
        super::super::load("no/such/crossdock.yaml".as_ref(), &|_| None, &[]).err().unwrap().render(Look::Ascii);
    a_folder_is_no_file: super::super::load("/".as_ref(), &|_| None, &[]).err().unwrap().render(Look::Ascii);
    what_is_no_text_is_told: {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"data: \xff").unwrap();
        let problems = super::super::load(file.path(), &|_| None, &[]).err().unwrap().render(Look::Ascii);
        problems.replace(file.path().to_str().unwrap(), "crossdock.yaml")
    };
    windows_line_ends_and_a_byte_order_mark_keep_the_places:
        problems("\u{feff}data: x\r\nlisen: 1\r\nflows:\r\n  a:\r\n    from: { topic: x }\r\n    key: |\r\n      .a |\r\n      $b\r\n");
    what_a_terminal_would_obey_is_not_shown:
        problems("\"a\\e[31m\": 1\nfl\u{202e}ows: {}\ntopics: [\"\\a\"]\nlisten: \"\\e]0;x\\a\"\n");
    every_problem_is_told_at_once: problems(r#"
data: "${env.DATA_DIR}"
listen: 0.0.0.0:8080
conections: {}
connections:
  github: { connector: github, config: { secret: hunter2 } }
  tracker: { connector: http, config: { base_url: [], timeout: 5s } }
flows:
  a:
    from: { connection: githb }
    filter: $evnt.type == "a"
    to: { connection: tracker, action: post, path: / }
    order: key
    order: none
    retry: often
"#);
    programs_get_every_problem_with_line_and_column:
        serde_json::to_string_pretty(&load("data: x\nflows: { ä: 5, b: 6 }\n").err().unwrap().json()).unwrap();
    people_get_lines: load("flows: { a: { from: { topic: x } } }\n").err().unwrap().render(Look::Lines);
    a_list_is_no_configuration: problems("- a\n");
}
