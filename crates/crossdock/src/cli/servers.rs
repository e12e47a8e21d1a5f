//! Commands that ask the store and the broker of a configuration themselves: `plan` and `migrate`.

use std::path::Path;

use crossdock_core::Severity;
use serde_json::json;

use super::{
    args::{Config, Output},
    failure::{Code, Failure},
    findings, local,
    screen::Screen,
};
use crate::{config::Loaded, wiring};

/// Loads the configuration of a command, which wants it to be `run` or `used`; its warnings go aside.
pub fn load(file: &Path, wanted: &str, screen: &mut Screen) -> Result<Loaded, Failure> {
    match local::load(file) {
        Ok(loaded) => {
            screen.problems_aside(&loaded.warnings);
            Ok(loaded)
        }
        Err(problems) => {
            screen.problems_aside(&problems);
            Err(Failure::new(Code::Failed, format!("{} cannot be {wanted}", file.display())))
        }
    }
}

/// What would be made in the store and the broker, and what differs there; `apply` makes what is missing. Exit with 1 if
/// anything differs or is wrong.
pub async fn plan(of: Config, apply: bool, screen: &mut Screen) -> Result<Code, Failure> {
    let loaded = load(&of.file, "used", screen)?;
    if apply {
        wiring::apply(&loaded).await.map_err(|error| Failure::new(Code::Failed, format!("{error:#}")))?;
    }
    let found = wiring::survey(&loaded).await;
    findings::show(&found, screen)?;
    screen.hint(&findings::summary(&found));
    if findings::worst(&found) == Severity::Missing {
        screen.suggest("crossdock plan --apply, or crossdock run, which makes it too");
    }
    Ok(if findings::worst(&found) > Severity::Missing { Code::Failed } else { Code::Ok })
}

/// Brings the tables to what this version needs.
pub async fn migrate(of: Config, screen: &mut Screen) -> Result<Code, Failure> {
    let loaded = load(&of.file, "used", screen)?;
    let migrated = wiring::migrate(&loaded).await;
    let migrated = migrated.map_err(|error| Failure::new(Code::Failed, format!("{error:#}")))?;
    let Some(migrated) = migrated else {
        let failure =
            Failure::new(Code::Failed, "the embedded store has no tables to migrate: it does that by itself");
        return Err(failure.next("add `store: postgres://USER@HOST/DATABASE` to use Postgres"));
    };
    let ran: Vec<_> =
        migrated.ran.iter().map(|(number, name)| json!({ "number": number, "name": name })).collect();
    match screen.output {
        Output::Json => screen.json(&json!({ "schema": migrated.schema, "ran": ran }).to_string())?,
        Output::Table => {
            for (number, name) in &migrated.ran {
                screen.line(&format!("migrated to {number}: {name}"))?;
            }
            screen.line(&format!("the schema is {}, as this version needs it", migrated.schema))?;
        }
    }
    Ok(Code::Ok)
}
