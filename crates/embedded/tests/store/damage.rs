//! Damaged files are named and left as they are; damaged events are told and never delivered.

use std::{fs, path::Path, sync::Arc, time::Duration};

use crossdock_core::{EventLog, PageRequest, StoreError, SystemClock};
use crossdock_embedded::{Embedded, OpenError, Options};

use crate::common::{event, join, next, open, options, put};

const DATABASE: &str = "crossdock.db";
const LOG: &str = "crossdock.db-wal";

fn bytes(folder: &Path, file: &str) -> Vec<u8> {
    fs::read(folder.join(file)).expect("the file is there")
}

/// A closed store with events.
async fn closed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), options()).await;
    for n in 0..20 {
        crate::common::append(&store, event(&n.to_string(), 10_000)).await.expect("taken");
    }
    store.close().await;
    folder
}

/// What `kill -9` leaves of a store that took some events, one commit each.
async fn killed() -> tempfile::TempDir {
    let (folder, image) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    // Small enough that no checkpoint comes in between.
    let store = open(folder.path(), options()).await;
    for n in 0..5 {
        put(&store, &n.to_string()).await;
    }
    for file in [DATABASE, LOG] {
        fs::copy(folder.path().join(file), image.path().join(file)).expect("a copy");
    }
    store.close().await;
    image
}

/// Changes bytes of a file; then the store is refused, the message names the file, and no file has changed.
async fn is_refused(folder: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut changed = bytes(folder, file);
    change(&mut changed);
    fs::write(folder.join(file), &changed).expect("the file can be written");
    let other = if file == LOG { Some(bytes(folder, DATABASE)) } else { None };
    let error = match Embedded::open(folder, options(), Arc::new(SystemClock)).await {
        Ok(_) => panic!("the damaged store opens"),
        Err(error) => error,
    };
    assert!(
        matches!(&error, OpenError::Damaged { file: named, .. } if *named == folder.join(file)),
        "{error}"
    );
    assert!(error.to_string().contains("restore a backup"), "{error}");
    assert_eq!(bytes(folder, file), changed, "{file} is left as it is");
    if let Some(other) = other {
        assert_eq!(bytes(folder, DATABASE), other, "so is the database");
    }
}

#[tokio::test]
async fn a_damaged_header_is_named() {
    let folder = closed().await;
    is_refused(folder.path(), DATABASE, |bytes| bytes[..16].fill(0x5a)).await;
}

#[tokio::test]
async fn a_database_that_was_cut_is_named() {
    let folder = closed().await;
    is_refused(folder.path(), DATABASE, |bytes| bytes.truncate(bytes.len() - 100)).await;
}

#[tokio::test]
async fn a_database_without_its_last_pages_is_named() {
    let folder = closed().await;
    is_refused(folder.path(), DATABASE, |bytes| bytes.truncate(bytes.len() / 2 / 4096 * 4096)).await;
}

#[tokio::test]
async fn a_damaged_page_in_the_middle_is_named() {
    let folder = closed().await;
    // The tree of the first tables: pages of payload carry no structure.
    is_refused(folder.path(), DATABASE, |bytes| bytes[4096..5 * 4096].fill(0x5a)).await;
}

#[tokio::test]
async fn a_damaged_header_of_the_log_is_named() {
    let folder = killed().await;
    is_refused(folder.path(), LOG, |bytes| bytes[0] ^= 0xff).await;
    let folder = killed().await;
    is_refused(folder.path(), LOG, |bytes| bytes[18] ^= 1).await;
}

#[tokio::test]
async fn a_bit_that_flipped_inside_the_log_is_named() {
    let folder = killed().await;
    is_refused(folder.path(), LOG, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
    .await;
}

#[tokio::test]
async fn a_log_that_a_power_cut_left_half_written_is_used_up_to_there() {
    let folder = killed().await;
    let mut log = bytes(folder.path(), LOG);
    log.truncate(log.len() - 1000);
    fs::write(folder.path().join(LOG), &log).expect("the file can be written");
    let store = open(folder.path(), options()).await;
    let page = EventLog::list(&store, None, PageRequest::first(10)).await.expect("the log reads");
    assert_eq!(page.items.len(), 4, "the last commit was not whole");
    store.close().await;
    let folder = killed().await;
    let mut log = bytes(folder.path(), LOG);
    let last = log.len() - 10;
    log[last] ^= 1;
    fs::write(folder.path().join(LOG), &log).expect("the file can be written");
    let store = open(folder.path(), options()).await;
    assert_eq!(crate::common::unfinished(&store).await.len(), 4, "nor was its last page");
    store.close().await;
}

#[tokio::test]
async fn a_flipped_bit_in_a_payload_is_told_and_never_delivered_while_other_partitions_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let two = Options { partitions: 2, ..options() };
    let store = open(folder.path(), two.clone()).await;
    let spread = ["a", "b", "c", "d", "e", "f"];
    for key in spread {
        let mut event = event(key, 5_000);
        event.key = Some(key.to_owned());
        event.data = key.repeat(5_000).into();
        crate::common::append(&store, event).await.expect("taken");
    }
    store.close().await;
    let mut file = bytes(folder.path(), DATABASE);
    let at =
        file.windows(2_000).position(|window| window == "a".repeat(2_000).as_bytes()).expect("it is there");
    file[at + 1_000] ^= 4;
    fs::write(folder.path().join(DATABASE), &file).expect("the file can be written");

    let store = open(folder.path(), two).await;
    let partition = |key: &str| crossdock_core::partition_of(key, 2);
    let expected: Vec<&str> = spread.into_iter().filter(|key| partition(key) != partition("a")).collect();
    assert!(!expected.is_empty() && expected.len() < 6, "both partitions have events");
    let mut subscription = join(&store).await;
    let mut given = Vec::new();
    while let Some(batch) = next(&mut subscription, Duration::from_millis(100)).await {
        given.extend(batch.deliveries.iter().map(|delivery| delivery.event.id.clone()));
    }
    assert_eq!(given, expected, "nothing of the damaged partition, everything of the other");
    let listed = EventLog::list(&store, None, PageRequest::first(10)).await;
    assert!(matches!(listed, Err(StoreError::Damaged(_))), "{listed:?}");
    let found = store.find("a").await;
    assert!(matches!(found, Err(StoreError::Damaged(_))), "{found:?}");
    // It does not keep new events from coming in and going out.
    let mut event = event("new", 10);
    event.key = Some(expected[0].to_owned());
    crate::common::append(&store, event).await.expect("taken");
    let batch = next(&mut subscription, Duration::from_secs(5)).await.expect("a batch");
    assert_eq!(batch.deliveries[0].event.id, "new");
    store.close().await;
}
