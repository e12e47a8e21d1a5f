//! The data folder: one process at a time, and clear words where it cannot be used.

use std::{fs, path::Path, process::Stdio, sync::Arc};

use crossdock_core::SystemClock;
use crossdock_embedded::{Embedded, OpenError};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::common::{eventually, open, options, put, sql};

async fn refused(folder: &Path) -> OpenError {
    match Embedded::open(folder, options(), Arc::new(SystemClock)).await {
        Ok(_) => panic!("{} could be opened", folder.display()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_folder_in_use_names_the_process_and_is_free_after_the_closing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    let error = refused(folder.path()).await;
    assert!(matches!(&error, OpenError::InUse { pid, .. } if *pid == std::process::id().to_string()));
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    store.close().await;
    open(folder.path(), options()).await.close().await;
}

#[tokio::test]
async fn a_store_that_is_dropped_writes_what_waits_and_then_frees_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    put(&store, "a").await;
    drop(store);
    let again = async || Embedded::open(folder.path(), options(), Arc::new(SystemClock)).await.is_ok();
    eventually("the folder is free", again).await;
}

#[tokio::test]
async fn a_folder_is_free_after_its_process_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("a program knows where it is"))
        .args(["--exact", "folder::holds_a_folder_until_it_is_killed", "--ignored", "--nocapture"])
        .env("CROSSDOCK_TEST_FOLDER", folder.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it has an output")).lines();
    while !lines.next_line().await.expect("a line").expect("the child opens the store").contains("open") {}
    let pid = child.id().expect("it runs").to_string();
    assert!(matches!(refused(folder.path()).await, OpenError::InUse { pid: holder, .. } if holder == pid));
    child.kill().await.expect("it is killed");
    open(folder.path(), options()).await.close().await;
}

#[tokio::test]
#[ignore = "the child of the test above"]
async fn holds_a_folder_until_it_is_killed() {
    let folder = std::env::var_os("CROSSDOCK_TEST_FOLDER").expect("the parent says which");
    let store = open(Path::new(&folder), options()).await;
    println!("\nopen");
    std::future::pending::<()>().await;
    store.close().await;
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("data");
    fs::write(&file, "something else").expect("a file");
    let error = refused(&file).await;
    assert!(matches!(&error, OpenError::Unusable { path, .. } if *path == file), "{error}");
    let below = refused(&file.join("below")).await;
    assert!(matches!(below, OpenError::Unusable { .. }), "{below}");
    assert_eq!(fs::read(&file).expect("it is there"), b"something else");
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_may_not_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("permissions");
    if fs::write(folder.path().join("probe"), "").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    let error = refused(folder.path()).await;
    assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    open(folder.path(), options()).await.close().await;
    sql(folder.path(), "PRAGMA user_version = 99").await;
    let before = fs::read(folder.path().join("crossdock.db")).expect("the file");
    let error = refused(folder.path()).await;
    assert!(matches!(error, OpenError::Newer { version: 99, .. }), "{error}");
    assert_eq!(fs::read(folder.path().join("crossdock.db")).expect("the file"), before);
}
