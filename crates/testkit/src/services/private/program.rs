//! A process that does not outlive the test program.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::services::environment;

/// Where the programs of a server are, or a panic that says how to get them: `package` is Debian's name.
pub(super) fn programs(variable: &str, package: &str) -> PathBuf {
    let programs = environment::find(variable).unwrap_or_else(|| {
        panic!(
            "this test breaks a server of its own, and there are no programs to start one from ({variable} is not set). \
             Install {package}, also where the shared servers run in Docker or elsewhere, then type: make up"
        )
    });
    programs.into()
}

/// Longer than a server takes to stop in order on a busy machine.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Waits for its input to end, which is when the test program is gone, however it went. Then ends the process and removes
/// its folder.
const WATCH: &str = r#"read -r _; kill -9 "$1" 2>/dev/null; rm -rf -- "$2""#;

/// Dropping it kills it.
pub(super) struct Program {
    child: Child,
    watch: Child,
}

impl Program {
    /// Starts it in `folder`, with what it prints in the file `log` there.
    pub(super) fn start(mut command: Command, folder: &Path) -> Self {
        let log = File::options().create(true).append(true).open(folder.join("log")).expect("the log opens");
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a second handle"))
            .stdout(log);
        // In a group of its own: Ctrl-C at the terminal is for the test program alone, the watch does the rest.
        let child = command.process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let watch = Command::new("sh")
            .args(["-c", WATCH, "sh", &child.id().to_string()])
            .arg(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        Self { child, watch }
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Sends it a signal, if it has not ended.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
        }
    }

    /// Asks it to end and waits until it has.
    pub(super) async fn stop(mut self, signal: Signal) {
        self.signal(signal);
        let until = Instant::now() + STOP_MAX;
        while self.ended().is_none() {
            assert!(Instant::now() < until, "process {} does not stop", self.child.id());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The watch first: once the process is gone, its number may be given to another one.
        end(&mut self.watch);
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let children = children(self.child.id());
            end(&mut self.child);
            // Postgres' backends would go on until they notice, one of them perhaps with a commit.
            for child in children {
                // One that has ended by itself is what is wanted.
                let _ = kill_process(child, Signal::KILL);
            }
        }
    }
}

/// Kills and waits; both can only fail for a process that is gone.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The processes that this one has started and that have not ended.
fn children(parent: u32) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok())
        .filter(|process| parent_of(*process) == Some(parent))
        .filter_map(Pid::from_raw)
        .collect()
}

/// In `PID (name) state parent …` the name may hold spaces and parentheses.
fn parent_of(process: i32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
