//! What `bench` is asked to do.

use crate::rows::{self, Row, Size};

/// What the arguments say.
pub enum Asked {
    /// How to call it.
    Help,
    /// Run these rows, in the order of the table.
    Run(Vec<Row>, Size),
}

impl Asked {
    /// Reads the arguments. `Err` is the first one that means nothing.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut size, mut names) = (Size::FULL, Vec::new());
        for argument in arguments {
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--quick" => size = Size::QUICK,
                flag if flag.starts_with('-') => return Err(format!("there is no flag `{flag}`")),
                name if rows::all().iter().any(|row| row.name.starts_with(name)) => names.push(argument),
                name => return Err(format!("no row begins with `{name}`")),
            }
        }
        let wanted = |row: &Row| names.is_empty() || names.iter().any(|name| row.name.starts_with(name));
        Ok(Self::Run(rows::all().into_iter().filter(wanted).collect(), size))
    }
}

/// How it is called, with every row and every flag.
pub fn help() -> String {
    let rows: String =
        rows::all().iter().map(|row| format!("  {:<8} {}: {}\n", row.name, row.about, row.target)).collect();
    format!(
        "Measures a hub on this machine, load generator and receiver included, and prints a table.

Usage: bench [--quick] [ROW…]        (make bench ARGS=\"--quick start\")

Rows, all of them if none is named; the beginning of a name will do:
{rows}
Flags:
  --quick  a tenth of the size: to see that it works, not to compare
  --help   this text
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(arguments: &[&str]) -> Result<Vec<&'static str>, String> {
        match Asked::read(arguments.iter().map(|&argument| argument.to_owned()))? {
            Asked::Help => Ok(vec!["help"]),
            Asked::Run(rows, _) => Ok(rows.iter().map(|row| row.name).collect()),
        }
    }

    #[test]
    fn help_measures_nothing_and_what_means_nothing_is_refused() {
        assert_eq!(rows(&["--quick", "--help"]), Ok(vec!["help"]));
        assert_eq!(rows(&["--quik"]), Err("there is no flag `--quik`".to_owned()));
        assert_eq!(rows(&["start", "strat"]), Err("no row begins with `strat`".to_owned()));
    }

    #[test]
    fn rows_come_in_the_order_of_the_table() {
        assert_eq!(rows(&[]).map(|rows| rows.len()), Ok(rows::all().len()));
        assert_eq!(rows(&["steady", "sta"]), Ok(vec!["start", "steady"]));
    }
}
