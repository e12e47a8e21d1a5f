//! Commands that need no hub: check, init, completions.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use clap::CommandFactory as _;
use clap_complete::Shell;
use crossdock_core::Severity;
use serde_json::json;

use super::{
    args::{Cli, Output},
    failure::{Code, Failure},
    findings,
    screen::Screen,
};
use crate::{
    config::{self, Loaded, Problems},
    connectors, wiring,
};

/// The name of a configuration where nothing else is said.
const FILE: &str = "crossdock.yaml";

/// The configuration that `init` writes.
pub const STARTER: &str = include_str!("starter.yaml");

/// Loads a configuration with this program's connectors and environment.
pub fn load(file: &Path) -> Result<Loaded, Problems> {
    config::load(file, &|name| std::env::var(name).ok(), &connectors::connectors())
}

/// Tells everything that is wrong with a configuration, `online` also with the store and the broker that it names.
pub async fn check(file: &Path, online: bool, screen: &mut Screen) -> Result<Code, Failure> {
    let loaded = load(file);
    let found = match &loaded {
        Ok(loaded) if online => wiring::survey(loaded).await,
        _ => Vec::new(),
    };
    let (problems, summary) = match loaded {
        Ok(loaded) => {
            let (flows, connections) = (loaded.plan.flows.len(), loaded.plan.connections.len());
            let [flows, connections] = [number(flows, "flow"), number(connections, "connection")];
            (loaded.warnings, format!("{} is right: {flows}, {connections}", file.display()))
        }
        Err(problems) => {
            let (errors, _) = problems.counts();
            (problems, format!("{} has {}", file.display(), number(errors, "error")))
        }
    };
    match screen.output {
        Output::Json => {
            let mut told = problems.json();
            if online {
                told["online"] = json!(found);
            }
            screen.json(&told.to_string())?;
        }
        Output::Table => {
            if !problems.items.is_empty() {
                screen.problems(&problems)?;
                screen.line("")?;
            }
            screen.line(&summary)?;
            if !found.is_empty() {
                findings::show(&found, screen)?;
                screen.hint(&findings::summary(&found));
            }
        }
    }
    let wrong = problems.has_errors() || findings::worst(&found) == Severity::Error;
    Ok(if wrong { Code::Failed } else { Code::Ok })
}

fn number(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Writes a configuration to begin with. Never overwrites one.
pub fn init(dir: &Path, screen: &mut Screen) -> Result<Code, Failure> {
    let file = dir.join(FILE);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(Code::Failed, format!("{} is there already, and stays as it is", file.display()))
                .next(format!("crossdock check {}", file.display()))
        }
        _ => Failure::new(Code::Failed, format!("cannot write {}: {error}", file.display())),
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut new = fs::File::create_new(&file).map_err(failed)?;
    new.write_all(STARTER.as_bytes()).map_err(failed)?;
    match screen.output {
        Output::Json => screen.json(&json!({ "file": file }).to_string())?,
        Output::Table => {
            screen.line(&format!("wrote {}", file.display()))?;
            screen.suggest(&next(&file));
        }
    }
    Ok(Code::Ok)
}

fn next(file: &Path) -> String {
    match file == Path::new(".").join(FILE) {
        true => "read it, then crossdock check, then crossdock run".to_owned(),
        false => {
            format!("read it, then crossdock check {0}, then crossdock run -c {0}", file.display())
        }
    }
}

/// Prints a script that completes commands.
pub fn completions(shell: Shell, screen: &mut Screen) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "crossdock", &mut script);
    screen.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Code::Ok)
}
