//! Where results are written, and how wide and how colourful it may be.

use std::io::{self, BufRead, IsTerminal as _, Write};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    age,
    args::{Global, Output},
    client::Reply,
    details,
    failure::Failure,
    table::{self, Column},
};
use crate::{
    config::{Look, Problems},
    safe,
};

/// The widest that output for people is where nobody says otherwise.
const WIDTH: u16 = 80;

/// The standard streams and what is known of them.
pub struct Screen {
    /// Results.
    pub out: Box<dyn Write + Send>,
    /// What is said beside them.
    pub aside: Box<dyn Write + Send>,
    /// Answers.
    pub answers: Box<dyn BufRead + Send>,
    /// Whether a person sees results at once.
    pub terminal: bool,
    /// Whether a person sees at once what is said beside them.
    pub aside_terminal: bool,
    /// Whether a person can be asked.
    pub can_ask: bool,
    /// Whether a bar may be drawn on the standard error.
    pub bar: bool,
    /// The columns of the terminal; none if lines may be as long as they like.
    pub width: Option<u16>,
    /// Whether colours are wanted.
    pub colour: bool,
    /// Whether hints and progress are not wanted.
    pub quiet: bool,
    /// How results are written.
    pub output: Output,
    /// The moment from which ages are counted.
    pub now: fn() -> Timestamp,
}

impl Screen {
    /// The standard streams.
    pub fn standard(global: &Global) -> Self {
        let terminal = io::stdout().is_terminal();
        let aside_terminal = io::stderr().is_terminal();
        let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let plain =
            global.no_color || said("NO_COLOR").is_some() || said("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(io::stdout()),
            aside: Box::new(io::stderr()),
            answers: Box::new(io::BufReader::new(io::stdin())),
            terminal,
            aside_terminal,
            can_ask: io::stdin().is_terminal() && aside_terminal,
            bar: aside_terminal && !global.quiet,
            width: terminal.then(|| width(comfy_table::Table::new().width())),
            colour: !plain,
            quiet: global.quiet,
            output: global.output,
            now: Timestamp::now,
        }
    }

    /// A line of the result.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.write(&safe::lines(text))
    }

    /// JSON as the result.
    pub fn json(&mut self, text: &str) -> io::Result<()> {
        self.write(&safe::json(text))
    }

    /// That nobody reads it any more (`| head`) is no failure.
    fn write(&mut self, text: &str) -> io::Result<()> {
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// A line for people that is not the result; on the standard error, so that it is in nobody's way.
    pub fn hint(&mut self, text: &str) {
        if !self.quiet && self.output == Output::Table {
            self.say(&safe::lines(text));
        }
    }

    /// What a person may want to do next.
    pub fn suggest(&mut self, next: &str) {
        if self.aside_terminal {
            self.hint(&format!("next: {next}"));
        }
    }

    /// Why a command was not done.
    pub fn failure(&mut self, failure: &Failure) {
        let text = match self.output {
            Output::Table => safe::lines(&failure.to_string()),
            Output::Json => safe::json(&failure.json().to_string()),
        };
        self.say(&text);
    }

    /// Nothing is left to do for who cannot hear it.
    fn say(&mut self, text: &str) {
        writeln!(self.aside, "{text}").and_then(|()| self.aside.flush()).ok();
    }

    /// What is wrong with a configuration, as the result.
    pub fn problems(&mut self, problems: &Problems) -> io::Result<()> {
        let drawn = problems.render(look(self.terminal, self.colour));
        self.write(drawn.trim_end())
    }

    /// What is wrong with a configuration, beside what is done with it.
    pub fn problems_aside(&mut self, problems: &Problems) {
        if problems.items.is_empty() {
            return;
        }
        let text = match self.output {
            Output::Table => problems.render(look(self.aside_terminal, self.colour)),
            Output::Json => safe::json(&problems.json().to_string()),
        };
        self.say(text.trim_end());
    }

    /// Asks a person. The end of the input is an empty answer.
    pub fn ask(&mut self, question: &str) -> io::Result<String> {
        write!(self.aside, "{}", safe::lines(question))?;
        self.aside.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    /// A list: the API's JSON, or a table, or what to do since it is empty.
    pub fn list(&mut self, reply: &Reply, columns: &[Column], empty: &str) -> io::Result<()> {
        if self.output == Output::Json {
            return self.json(&reply.text);
        }
        if reply.items().is_empty() {
            self.line(empty)?;
        } else {
            let table = table::render(reply.items(), columns, self);
            self.line(&table)?;
        }
        if let Some(next) = reply.next() {
            self.hint(&format!("there is more: --cursor {next}"));
        }
        Ok(())
    }

    /// One thing: the API's JSON, or its fields.
    pub fn one(&mut self, reply: &Reply) -> io::Result<()> {
        match self.output {
            Output::Json => self.json(&reply.text),
            Output::Table => {
                let details = details::render(&reply.value, self);
                self.line(&details)
            }
        }
    }

    /// A moment: its age at a terminal, itself in a pipe.
    pub fn moment(&self, value: Option<&Value>) -> String {
        let Some(text) = value.and_then(Value::as_str) else { return "-".to_owned() };
        match (self.terminal, text.parse()) {
            (true, Ok(moment)) => age::age(moment, (self.now)()),
            _ => safe::line(text),
        }
    }
}

/// How wide a terminal is; some do not know, or say none.
fn width(columns: Option<u16>) -> u16 {
    columns.filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

/// How problems of a configuration are drawn.
fn look(terminal: bool, colour: bool) -> Look {
    match (terminal, colour) {
        (true, true) => Look::Colour,
        (true, false) => Look::Lines,
        (false, _) => Look::Ascii,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_of_unknown_size_has_80_columns() {
        assert_eq!([None, Some(0), Some(60)].map(width), [80, 80, 60]);
    }
}
