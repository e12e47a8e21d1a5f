//! One notable moment, as a line.

use std::time::Duration;

use serde_json::json;

/// The margin of lines that belong to the one above.
const BELOW: &str = "           ";

/// What kind of moment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It happens anyway.
    Note,
    /// The demo does something to a system.
    Act,
    /// A promise is kept, or something arrived.
    Good,
    /// A try failed, or a promise is broken.
    Bad,
}

/// A moment, with lines below it that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the start.
    pub at: Duration,
    /// What kind of moment it is.
    pub mark: Mark,
    /// What happened: a line, and below it what else there is to say.
    pub text: String,
    /// Commands to type, each with what it is for.
    pub commands: Vec<(&'static str, String)>,
}

impl Line {
    /// A moment without commands.
    pub fn new(at: Duration, mark: Mark, text: impl Into<String>) -> Self {
        Self { at, mark, text: text.into(), commands: Vec::new() }
    }

    /// The same with one more command.
    pub fn command(mut self, what_for: &'static str, command: String) -> Self {
        self.commands.push((what_for, command));
        self
    }

    /// For people: time, mark, text; each command on a line of its own, so that it can be copied.
    pub fn text(&self, colour: bool) -> String {
        let (sign, code) = match self.mark {
            Mark::Note => ("·", "2"),
            Mark::Act => ("►", "33"),
            Mark::Good => ("✓", "32"),
            Mark::Bad => ("✗", "31"),
        };
        let sign = painted(sign, code, colour);
        let below = format!("\n{BELOW}");
        let mut text =
            format!("{:>6.1} s  {sign} {}", self.at.as_secs_f64(), self.text.replace('\n', &below));
        for (what_for, command) in &self.commands {
            text += &format!("{below}{what_for:<10} {}", painted(command, "1", colour));
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        let mark = match self.mark {
            Mark::Note => "note",
            Mark::Act => "act",
            Mark::Good => "good",
            Mark::Bad => "bad",
        };
        let commands: Vec<_> = self.commands.iter().map(|(_, command)| command).collect();
        json!({ "seconds": self.at.as_secs_f64(), "mark": mark, "text": self.text.replace('\n', "; "), "commands": commands })
            .to_string()
    }
}

/// A text in a colour of the terminal, by its ANSI number; as it is without colours.
pub fn painted(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::new(Duration::from_millis(26_140), Mark::Bad, "dead letter")
            .command("see it:", "crossdock x".to_owned())
    }

    #[test]
    fn a_command_stands_on_a_line_of_its_own() {
        assert_eq!(line().text(false), "  26.1 s  ✗ dead letter\n           see it:    crossdock x");
    }

    #[test]
    fn colours_are_written_only_where_they_are_wanted() {
        assert!(line().text(true).contains("\u{1b}[31m✗\u{1b}[0m"));
        assert!(!line().text(false).contains('\u{1b}'));
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let value: serde_json::Value = serde_json::from_str(&line().json()).expect("JSON");
        assert_eq!((&value["mark"], &value["commands"][0]), (&json!("bad"), &json!("crossdock x")));
        assert!(!line().json().contains('\n'));
    }
}
