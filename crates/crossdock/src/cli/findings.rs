//! What was found in the store and the broker, for people and for programs.

use crossdock_core::{Finding, Severity};
use serde_json::{Value, json};

use super::{
    args::Output,
    failure::Failure,
    screen::Screen,
    table::{self, Column, Show, column},
};

const FINDINGS: &[Column] = &[
    column("STATE", "/state", Show::Name),
    column("WHAT", "/subject", Show::Name),
    column("FOUND", "/detail", Show::Text),
];

/// Shows findings as a table with what to do below it, or as a list of JSON.
pub fn show(findings: &[Finding], screen: &mut Screen) -> Result<(), Failure> {
    if screen.output == Output::Json {
        screen.json(&json!({ "items": findings, "next": null }).to_string())?;
        return Ok(());
    }
    let rows: Vec<Value> = findings.iter().map(row).collect();
    let table = table::render(&rows, FINDINGS, screen);
    screen.line(&table)?;
    for finding in findings {
        if let Some(remedy) = &finding.remedy {
            screen.line(&format!("! {}: {remedy}", finding.subject))?;
        }
    }
    Ok(())
}

fn row(finding: &Finding) -> Value {
    let state = match finding.severity {
        Severity::Ok => "ok",
        Severity::Missing => "missing",
        Severity::Warning => "differs",
        Severity::Error => "wrong",
    };
    json!({ "state": state, "subject": finding.subject, "detail": finding.detail })
}

/// How many findings there are of each kind, in words.
pub fn summary(findings: &[Finding]) -> String {
    let kinds = [
        (Severity::Ok, "as it should be"),
        (Severity::Missing, "missing"),
        (Severity::Warning, "to look at"),
        (Severity::Error, "wrong"),
    ];
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let told = kinds.into_iter().map(|(severity, words)| (count(severity), words));
    let told: Vec<_> =
        told.filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect();
    told.join(", ")
}

/// The worst of all findings; none is as it should be.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}
