//! Places at which the kill tests end the process. Only in builds with debug assertions: a release build has none.

/// Aborts the process, as `kill -9` would, if the environment says `CROSSDOCK_FAILPOINT=name:nth` and this is the nth time
/// that the point of this name is passed.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };
    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let value = std::env::var("CROSSDOCK_FAILPOINT").ok()?;
        let (name, nth) = value.split_once(':').unwrap_or((&value, "1"));
        Some((name.to_owned(), nth.parse().ok()?))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);
    if let Some((wanted, nth)) = WANTED.as_ref()
        && wanted == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        std::process::abort();
    }
}

/// Does nothing: this is a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn failpoint(_name: &str) {}
