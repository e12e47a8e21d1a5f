//! `crossdock demo`, as a newcomer meets it: its lines, the commands that it prints, and its end.

use std::{path::PathBuf, process::Stdio, time::Duration};

use crossdock_tests::{Terminal, crossdock};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::{Mutex, MutexGuard},
};

/// How long one line may be waited for, and a process to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// One demo at a time: each keeps promises about time.
static TURN: Mutex<()> = Mutex::const_new(());

/// A demo as a process, with what it has written so far.
struct Demo {
    _turn: MutexGuard<'static, ()>,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Demo {
    async fn start(arguments: &[&str]) -> Self {
        let turn = TURN.lock().await;
        let mut child = Command::new(crossdock())
            .args(["demo", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("CROSSDOCK_URL")
            .env_remove("CROSSDOCK_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary is built");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { _turn: turn, child, lines, seen: Vec::new() }
    }

    /// The next line that holds a text.
    async fn line(&mut self, text: &str) -> String {
        let next = async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                self.seen.push(line.clone());
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        };
        let line = tokio::time::timeout(PATIENCE, next).await.ok().flatten();
        line.unwrap_or_else(|| panic!("no line with `{text}` in\n{}", self.seen.join("\n")))
    }

    /// The command that is printed behind this label.
    async fn command(&mut self, label: &str) -> String {
        let line = self.line(label).await;
        line.split_once(label).expect("it is there").1.trim().to_owned()
    }

    /// Reads to the end: the exit code, and the standard error.
    async fn end(&mut self) -> (Option<i32>, String) {
        let rest = async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                self.seen.push(line);
            }
            let mut errors = String::new();
            let mut stderr = self.child.stderr.take().expect("a pipe");
            stderr.read_to_string(&mut errors).await.expect("text");
            (self.child.wait().await.expect("it ends").code(), errors)
        };
        tokio::time::timeout(PATIENCE, rest).await.expect("the demo ends")
    }

    fn interrupt(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let status = std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill is there");
        assert!(status.success());
    }

    fn data(&self) -> PathBuf {
        let line = self.seen.iter().find_map(|line| line.trim_start().strip_prefix("data "));
        PathBuf::from(line.expect("it says where").trim_start().split(" (").next().expect("a path"))
    }
}

/// Types a command as a person would.
async fn typed(command: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("there is a shell");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test]
async fn a_newcomer_sees_all_that_is_promised_and_replays_the_dead_letter() {
    let mut demo = Demo::start(&["--seconds", "45"]).await;
    demo.line("arrived at crm in").await;

    let show = demo.command("see it:").await;
    let (shown, text) = typed(&show).await;
    let letter =
        show.split(' ').find(|word| word.starts_with('d') && word.len() == 27).expect("a dead letter's id");
    assert!(
        shown && text.contains(letter) && text.contains("UNKNOWN_SKU") && text.contains("LAMP-X"),
        "{text}"
    );

    let replay = demo.command("replay it:").await;
    assert!(replay.contains(letter), "{replay}");
    let (replayed, text) = typed(&replay).await;
    assert!(replayed, "{replay}\n{text}");
    demo.line("replayed: order").await;
    demo.line("the warehouse has it, with the webhook-id of its first try").await;

    let (code, errors) = demo.end().await;
    assert_eq!(code, Some(0), "{errors}\n{}", demo.seen.join("\n"));
    // That each is there in time is the demo's own judgement, which its exit code tells.
    for promise in [
        "arrived at crm in",
        "all is well",
        "the CRM goes down",
        "in order for each of",
        "3 duplicate webhooks swallowed",
        "Retry-After honoured",
        "said 422 UNKNOWN_SKU",
        "a replay will arrive",
    ] {
        assert!(
            demo.seen.iter().any(|line| line.contains(promise)),
            "no `{promise}` in\n{}",
            demo.seen.join("\n")
        );
    }
    assert!(
        demo.seen.iter().any(|line| line.contains("0 out of order, 0 twice")),
        "{}",
        demo.seen.join("\n")
    );
    assert!(demo.seen.iter().any(|line| line.starts_with("Next:") && line.contains(" init ")));
    assert!(!demo.seen.iter().any(|line| line.contains('\u{1b}')), "plain lines have no colours");
    assert_eq!(errors, "", "nothing is worth a warning");
}

#[tokio::test]
async fn ctrl_c_ends_it_cleanly_and_says_what_comes_next() {
    let mut demo = Demo::start(&[]).await;
    demo.line("arrived at crm in").await;
    let data = demo.data();
    assert!(data.exists());
    demo.interrupt();
    let (code, errors) = demo.end().await;
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{}", demo.seen.join("\n"));
    assert!(demo.seen.last().is_some_and(|line| line.starts_with("Next:") && line.contains(" init ")));
    assert!(!data.exists(), "the temporary folder is gone");
}

#[tokio::test]
async fn a_demo_that_is_too_short_fails_and_keeps_what_it_is_told_to_keep() {
    let folder = tempfile::tempdir().expect("a folder");
    let keep = folder.path().join("kept");
    let keep = keep.to_str().expect("text");
    let mut demo = Demo::start(&["--seconds", "3", "--keep", keep, "--output", "json"]).await;
    let (code, errors) = demo.end().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("not everything was seen") && errors.contains("duplicate webhook"), "{errors}");
    for line in &demo.seen {
        let line: Value = serde_json::from_str(line).expect("one JSON object a line");
        assert!(line["seconds"].is_f64() && line["text"].is_string(), "{line}");
    }
    let names: Vec<_> =
        std::fs::read_dir(keep).expect("kept").map(|entry| entry.expect("a name").file_name()).collect();
    assert!(
        names.iter().any(|name| name == "crossdock.yaml") && names.iter().any(|name| name == "data"),
        "{names:?}"
    );

    drop(demo);
    let (code, errors) = Demo::start(&["--keep", keep]).await.end().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("is not empty"), "{errors}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (ended, text) = typed(&format!("'{}' demo --listen {address}", crossdock().display())).await;
    assert!(!ended && text.contains("is taken") && text.contains("--listen 127.0.0.1:0"), "{text}");
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_without_a_complaint() {
    let mut demo = Demo::start(&[]).await;
    demo.line("arrived at crm in").await;
    let Demo { mut child, lines, _turn, .. } = demo;
    drop(lines);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a status");
    let mut errors = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut errors).await.expect("text");
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn at_a_terminal_a_block_of_numbers_refreshes_below_the_lines() {
    let _turn = TURN.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut terminal = Terminal::start(folder.path(), "demo --listen 127.0.0.1:0").expect("a terminal");
    terminal.wait_for("arrived at crm in").await.expect("it begins");
    // Up and over what stood there.
    terminal.wait_for("\u{1b}[1A").await.expect("the block is drawn anew");
    terminal.press("\u{3}").await.expect("Ctrl-C");
    let (status, seen) = terminal.end().await.expect("it ends");
    assert!(status.success() && seen.contains("Next:"), "{status}: {seen}");
}
