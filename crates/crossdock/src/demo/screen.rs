//! Where lines and numbers go: above a block that refreshes, line by line, or as JSON.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    glance::Glance,
    line::{Line, Mark},
};

/// How often a person sees new numbers, and how often a log gets a line of them.
const BLOCK_EVERY: Duration = Duration::from_millis(400);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How the demo is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// Whether a person sees it at a terminal, at once.
    pub live: bool,
    /// Whether colours are wanted.
    pub colour: bool,
    /// One JSON object for each line, for programs.
    pub json: bool,
}

/// The standard output. Its errors mean that nobody reads it any more.
pub struct Screen {
    show: Show,
    out: Box<dyn Write + Send>,
    bars: MultiProgress,
    block: Vec<ProgressBar>,
    told: Duration,
}

impl Screen {
    /// The standard output.
    pub fn standard(mut show: Show) -> Self {
        show.live &= std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self::new(show, Box::new(io::stdout()), ProgressDrawTarget::stdout())
    }

    fn new(mut show: Show, out: Box<dyn Write + Send>, target: ProgressDrawTarget) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        // A terminal that cannot move its cursor gets plain lines.
        show.live &= !show.json && !bars.is_hidden();
        show.colour &= show.live;
        Self { show, out, bars, block: Vec::new(), told: Duration::ZERO }
    }

    /// A notable moment.
    pub fn line(&mut self, line: &Line) -> io::Result<()> {
        match self.show.json {
            true => self.text(&line.json()),
            false => self.text(&line.text(self.show.colour)),
        }
    }

    /// Text that is no moment: for people only.
    pub fn prose(&mut self, text: &str) -> io::Result<()> {
        if self.show.json { Ok(()) } else { self.text(text) }
    }

    /// A line of the log. It must not scribble over the block, and has no place among results.
    pub fn log(&mut self, line: &str) -> io::Result<()> {
        if self.show.live { self.bars.println(line) } else { writeln!(io::stderr(), "{line}") }
    }

    /// Whether new numbers are due.
    pub fn wants_glance(&self, now: Duration) -> bool {
        let every = if self.show.live { BLOCK_EVERY } else { LINE_EVERY };
        now >= self.told + every
    }

    /// The numbers.
    pub fn glance(&mut self, now: Duration, glance: &Glance) -> io::Result<()> {
        self.told = now;
        if !self.show.live {
            return self.line(&Line::new(now, Mark::Note, glance.line()));
        }
        // A blank line first: the `^C` that a terminal echoes moves the block down, and what stays of it is not seen.
        let mut lines = vec![" ".to_owned()];
        lines.extend(glance.block());
        while self.block.len() < lines.len() {
            self.block.push(self.bars.add(ProgressBar::new_spinner().with_style(style())));
        }
        for (bar, line) in self.block.iter().zip(lines) {
            bar.set_message(line);
        }
        Ok(())
    }

    /// Takes the block away; what is written from now on stays as it is.
    pub fn end_block(&mut self) -> io::Result<()> {
        self.block.drain(..).for_each(|bar| self.bars.remove(&bar));
        self.show.live = false;
        self.bars.clear()
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if self.show.live {
            return self.bars.println(text);
        }
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_msg}").unwrap_or(ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no holder panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no holder panics").clone()).expect("text")
        }
    }

    const LIVE: Show = Show { live: true, colour: true, json: false };

    fn hello() -> Line {
        Line::new(Duration::from_secs(1), Mark::Good, "hello")
    }

    #[test]
    fn where_no_cursor_moves_a_live_view_is_plain_lines() {
        let paper = Paper::default();
        let mut screen = Screen::new(LIVE, Box::new(paper.clone()), ProgressDrawTarget::hidden());
        screen.line(&hello()).expect("paper");
        screen.prose("to people").expect("paper");
        assert_eq!(paper.text(), "   1.0 s  ✓ hello\nto people\n");
    }

    #[test]
    fn programs_get_json_and_no_prose() {
        let paper = Paper::default();
        let show = Show { json: true, ..LIVE };
        let mut screen = Screen::new(show, Box::new(paper.clone()), ProgressDrawTarget::hidden());
        screen.line(&hello()).expect("paper");
        screen.prose("to people").expect("paper");
        let line: serde_json::Value = serde_json::from_str(&paper.text()).expect("one JSON object");
        assert_eq!(line["text"], "hello");
    }

    #[test]
    fn numbers_are_due_now_and_then() {
        let mut screen = Screen::new(LIVE, Box::new(io::sink()), ProgressDrawTarget::hidden());
        assert!(!screen.wants_glance(Duration::from_secs(4)));
        assert!(screen.wants_glance(Duration::from_secs(5)));
        screen.told = Duration::from_secs(5);
        assert!(!screen.wants_glance(Duration::from_secs(9)));
    }
}
