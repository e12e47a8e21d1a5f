//! What the language promises, through the public interface.

mod limits;
mod native;
mod parity;
mod programs;
mod templates;

use bytes::Bytes;
use crossdock_expr::{CompileError, Document, EvalError, Failure, Program, Scope};
use serde_json::Value;

const SCOPE: Scope = Scope::new(&["event", "config"]);

fn compile(source: &str) -> Program {
    Program::compile(source, &SCOPE).unwrap_or_else(|error| panic!("{source}: {error:?}"))
}

fn refusal(source: &str) -> CompileError {
    Program::compile(source, &SCOPE).err().unwrap_or_else(|| panic!("{source} compiles"))
}

fn document(text: &str) -> Document {
    Document::new(Bytes::from(text.to_owned()))
}

fn json(source: &str, input: &str) -> Result<String, EvalError> {
    let event = document(r#"{"type":"order.created","key":"k-7"}"#);
    let mut out = Vec::new();
    compile(source).json(&document(input), &[("event", &event), ("config", &document("{}"))], &mut out)?;
    Ok(String::from_utf8(out).expect("JSON is UTF-8"))
}

fn value(source: &str, input: &str) -> Value {
    let text = json(source, input).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{source}: {error}: {text}"))
}

fn failure(source: &str, input: &str) -> Failure {
    json(source, input).err().unwrap_or_else(|| panic!("{source} succeeds")).failure
}
