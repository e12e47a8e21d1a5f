//! What a machine that lacks something is told, by the scripts behind `make`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
};

use crossdock_tests::workspace;
use tempfile::TempDir;

/// A folder with these programs of the machine and nothing else.
fn machine(programs: &[&str]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for program in programs {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("sh runs");
        let path = String::from_utf8(found.stdout).expect("UTF-8");
        symlink(path.trim(), folder.path().join(program)).expect("a link");
    }
    folder
}

/// Adds a program that says this.
fn add(folder: &Path, program: &str, says: &str) {
    let path = folder.join(program);
    fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made a program");
}

const TOOLS: [&str; 10] = ["bash", "sh", "dirname", "sed", "cut", "sort", "head", "id", "env", "cat"];

fn prepare(machine: &Path) -> Output {
    let script = workspace().join("deploy/dev/prepare");
    let mut command = Command::new(machine.join("bash"));
    command.arg(script).arg("run").env_clear().env("PATH", machine).output().expect("bash runs")
}

fn told(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn without_rust_the_line_that_installs_it_is_printed() {
    let machine = machine(&TOOLS);
    add(machine.path(), "curl", "");
    let told = told(&prepare(machine.path()));
    assert!(told.contains("there is none") && told.contains("\n  curl --proto '=https'"), "{told}");
}

#[test]
fn an_old_rust_is_named_with_what_to_do_about_it() {
    let machine = machine(&TOOLS);
    add(machine.path(), "curl", "");
    add(machine.path(), "cargo", "");
    add(machine.path(), "rustc", "rustc 1.63.0 (4b91a6ea7 2022-08-08)");
    let package = told(&prepare(machine.path()));
    assert!(
        package.contains("this is 1.63.0, from a package") && package.contains("sh.rustup.rs"),
        "{package}"
    );
    add(machine.path(), "rustup", "");
    let rustup = told(&prepare(machine.path()));
    assert!(rustup.contains("this is 1.63.0.") && rustup.contains("\n  rustup update stable"), "{rustup}");
}

#[test]
fn the_cargo_that_rustup_installed_goes_before_one_of_the_distribution() {
    let (distribution, home) = (machine(&["sh", "make"]), TempDir::new().expect("a folder"));
    add(distribution.path(), "cargo", "of the distribution");
    let rustup = home.path().join(".cargo/bin");
    let which = || {
        let output = Command::new(distribution.path().join("make"))
            .args(["--silent", "--eval", "which: ; @cargo", "which"])
            .current_dir(workspace())
            .env_clear()
            .env("PATH", distribution.path())
            .env("HOME", home.path())
            .output()
            .expect("make runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(which(), "of the distribution\n", "there is no other");
    fs::create_dir_all(&rustup).expect("a folder");
    add(&rustup, "cargo", "of rustup");
    assert_eq!(which(), "of rustup\n");
}
