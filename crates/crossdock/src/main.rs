//! The Crossdock program: the only place that wires.

mod cli;
mod config;
mod connectors;
mod demo;
mod descriptors;
mod drain;
mod entrance;
mod logs;
mod run;
mod safe;
mod stop;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Only one provider is linked; naming it keeps rustls from guessing.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(cli::run(cli)).into()
}
