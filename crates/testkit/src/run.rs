//! Runs one case of a suite.

use std::{future::Future, time::Duration};

use tokio::{runtime::Builder, time::timeout};

/// Longer than any case takes on a busy machine of two cores; a case that waits for ever fails here.
const CASE_MAX: Duration = Duration::from_secs(120);

/// Runs a case on a runtime of its own with two workers. Panics if it takes longer than two minutes.
pub fn run(case: impl Future<Output = ()>) {
    let runtime =
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built");
    let case = Box::pin(case);
    runtime.block_on(async { timeout(CASE_MAX, case).await }).expect("the case ends within two minutes");
    // What a subject still does in the background ends with the runtime, without being waited for.
    runtime.shutdown_background();
}
