//! `make bench`: what a hub does on this machine, load generator and sink included: on the embedded store, and with Postgres
//! and Kafka or RabbitMQ.
//!
//! Every row starts a fresh hub of the release build as its own process, with durable commits and its default logs
//! (JSON, one line per attempt) going to a file. `bench --help` lists the rows and the flags.

mod arguments;
mod machine;
mod process;
mod real;
mod rows;

use std::process::ExitCode;

use arguments::Asked;
use rows::{Row, Size};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Asked::read(std::env::args().skip(1)) {
        Ok(Asked::Run(rows, size)) => run(rows, size).await.map(|()| ExitCode::SUCCESS),
        Ok(Asked::Help) => {
            print!("{}", arguments::help());
            Ok(ExitCode::SUCCESS)
        }
        Err(problem) => {
            eprint!("error: {problem}\n\n{}", arguments::help());
            Ok(ExitCode::from(2))
        }
    }
}

async fn run(rows: Vec<Row>, size: Size) -> anyhow::Result<()> {
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
