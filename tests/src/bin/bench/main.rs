//! `make bench`: what a hub on the embedded store does on this machine, load generator and sink included.
//!
//! Every row starts a fresh hub of the release build as its own process, with durable commits and its default logs
//! (JSON, one line per attempt) going to a file. `bench NAME…` runs only the rows whose names begin so; `--quick` runs
//! them at a tenth of the size.

mod machine;
mod process;
mod rows;

use anyhow::bail;

use rows::{Row, Size};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (flags, names): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let size = if flags.iter().any(|flag| flag == "--quick") { Size::QUICK } else { Size::FULL };
    let rows: Vec<_> = rows::all().into_iter().filter(|row| wanted(row, &names)).collect();
    if rows.is_empty() {
        bail!("no row begins with {names:?}; there are {}", rows::all().map(|row| row.name).join(", "));
    }
    println!("{}\n", machine::describe());
    println!("| what | to reach | measured | |\n|---|---|---|---|");
    for row in rows {
        let figures = (row.run)(size).await?;
        println!(
            "| {} | {} | {} | {} |",
            row.about,
            row.target,
            figures.text,
            if figures.reached { "✓" } else { "missed" }
        );
    }
    Ok(())
}

fn wanted(row: &Row, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| row.name.starts_with(name.as_str()))
}
