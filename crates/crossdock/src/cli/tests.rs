//! The command line against a hub that gives recorded answers: what people and programs see, and how it ends.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use clap::Parser as _;

use super::{
    Cli, Code,
    args::{Command, Output},
    client::Client,
    finish,
    screen::Screen,
};

mod behaviour;
mod help;
mod hub;
mod output;

/// Who looks at the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Eyes {
    /// A terminal of so many columns.
    Terminal(u16),
    /// A pipe.
    Pipe,
}

/// How a command ended and what it said.
#[derive(Debug)]
struct Told {
    code: Code,
    out: String,
    aside: String,
}

/// Bytes that a test can look at.
#[derive(Debug, Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parse(arguments: &[&str]) -> Cli {
    let fixed = ["crossdock", "--actor", "ana", "--token", "t"];
    Cli::try_parse_from(fixed.iter().chain(arguments)).unwrap_or_else(|error| panic!("{error}"))
}

/// A screen without colours, at noon.
fn screen(cli: &Cli, eyes: Eyes, out: Page, aside: Page, answers: &'static str) -> Screen {
    let (terminal, width) = match eyes {
        Eyes::Terminal(width) => (true, Some(width)),
        Eyes::Pipe => (false, None),
    };
    Screen {
        out: Box::new(out),
        aside: Box::new(aside),
        answers: Box::new(answers.as_bytes()),
        terminal,
        aside_terminal: terminal,
        can_ask: terminal,
        // It would be drawn on the real standard error.
        bar: false,
        width,
        colour: false,
        quiet: cli.global.quiet,
        output: cli.global.output,
        now: || "2026-11-24T12:00:00Z".parse().unwrap(),
    }
}

/// Runs a command; `answers` is what the person types.
async fn run(arguments: &[&str], eyes: Eyes, answers: &'static str) -> Told {
    let cli = parse(arguments);
    let (out, aside) = (Page::default(), Page::default());
    let mut screen = screen(&cli, eyes, out.clone(), aside.clone(), answers);
    let ended = super::command(cli, &mut screen).await;
    let code = finish(ended, &mut screen);
    Told { code, out: out.text(), aside: aside.text() }
}

/// Runs a command against these recorded answers.
async fn ask(
    recorded: &[hub::Recorded],
    arguments: &[&str],
    eyes: Eyes,
    answers: &'static str,
) -> (Told, hub::Hub) {
    let hub = hub::Hub::start(recorded).await;
    let arguments: Vec<_> = ["--url", &hub.url].into_iter().chain(arguments.iter().copied()).collect();
    let told = run(&arguments, eyes, answers).await;
    (told, hub)
}
