//! Descriptors: every connection, incoming or outgoing, and every open file takes one, and a process has so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is asked for where the system names no most: what macOS gives in any case.
const UNNAMED: u64 = 10_240;

/// Kept for the store, the logs and the runtime; a quarter where there are few.
const RESERVED: u64 = 256;

/// Lets the process have as many descriptors as it may. Shells and service managers begin with 1,024, for programs that
/// use `select`; nothing here does. Returns how many there are.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(UNNAMED);
    let current = current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(error = %error, current, wanted, "the limit of open files cannot be raised");
            current
        }
    }
}

/// The most connections that may come in: half of what is there, so that those that go out find a descriptor too, whoever
/// holds the others.
pub fn connections_max(descriptors: u64) -> usize {
    let reserved = RESERVED.min(descriptors / 4);
    usize::try_from((descriptors - reserved) / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_stay_for_what_goes_out() {
        let of = |descriptors| connections_max(descriptors);
        assert_eq!([of(0), of(64), of(256), of(1024), of(20_000)], [1, 24, 96, 384, 9872]);
        assert!(of(u64::MAX) > 1 << 60);
    }

    #[test]
    fn as_many_as_the_process_may_have_are_there() {
        let descriptors = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current.unwrap_or(u64::MAX), descriptors);
        assert!(descriptors >= maximum.unwrap_or(UNNAMED).min(UNNAMED), "{descriptors} of {maximum:?}");
        assert_eq!(raise(), descriptors);
    }
}
