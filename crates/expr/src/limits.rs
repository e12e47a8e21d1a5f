//! What keeps a program from running, recursing or growing for ever.
//!
//! jaq has no such limit, so there are two kinds of check, and both count here, per thread: the program is rewritten to
//! take [`steps`] wherever it could loop (`guard.rs`), and values account for the bytes they are made of and the bytes they
//! look through ([`work`]). A step that fails ends the program by jaq's `halt`, which `try` and `//` let pass. Work that fails
//! makes the operation an error, and the next step fail; a single operation is bounded because the value it works on is.

use std::cell::Cell;

use crate::Limit;

/// Most steps that one evaluation may take: 100,000. A step is a call of a definition that calls itself, a round of `reduce`
/// or `foreach`, an output of `range` or `..`, a further output of a `,`, or eight items of
/// `.[]`. A program that takes them all runs for 10 to 100 ms, at worst for a second.
pub const STEPS_MAX: u32 = 100_000;

/// How many items of `.[]` count as a step.
const ITEMS_PER_STEP: u64 = 8;

/// Most bytes that one evaluation may produce or look through: 128 MiB. A value counts about as much as its JSON text,
/// each item of an array or object 64 bytes more when it is made.
pub const WORK_BYTES_MAX: u64 = 128 << 20;

/// Most bytes, as JSON text, of a single value in a jq program: 64 MiB, counting what it shares once for each place.
pub(crate) const VALUE_BYTES_MAX: u64 = 64 << 20;

/// Most stack that an evaluation may take, checked at every step. Threads of tokio and of tests have 2 MiB; what remains
/// is for the caller's own frames, and for what happens between two steps.
const STACK_BYTES_MAX: usize = 768 << 10;

struct Meter {
    items_left: Cell<u64>,
    work_left: Cell<u64>,
    stack_base: Cell<usize>,
    passed: Cell<Option<Limit>>,
}

thread_local! {
    // Outside of an evaluation there is no limit: values are also made when a document is read.
    static METER: Meter = const {
        Meter {
            items_left: Cell::new(u64::MAX),
            work_left: Cell::new(u64::MAX),
            stack_base: Cell::new(0),
            passed: Cell::new(None),
        }
    };
}

/// Run one evaluation under fresh limits, and tell which it passed.
pub(crate) fn metered<T>(evaluate: impl FnOnce() -> T) -> (T, Option<Limit>) {
    METER.with(|meter| {
        meter.items_left.set(u64::from(STEPS_MAX) * ITEMS_PER_STEP);
        meter.work_left.set(WORK_BYTES_MAX);
        meter.stack_base.set(stack_address());
        meter.passed.set(None);
    });
    let result = evaluate();
    METER.with(|meter| {
        meter.items_left.set(u64::MAX);
        meter.work_left.set(u64::MAX);
        (result, meter.passed.take())
    })
}

/// Take steps; none only measures the stack. `false`: a limit is passed, and the program must end.
pub(crate) fn steps(count: u32) -> bool {
    METER.with(|meter| {
        if meter.stack_base.get().abs_diff(stack_address()) > STACK_BYTES_MAX {
            pass(Limit::Depth);
        }
    });
    items(u64::from(count) * ITEMS_PER_STEP)
}

/// Take the part of a step that items of `.[]` count for. `false`: a limit is passed.
pub(crate) fn items(count: u64) -> bool {
    METER.with(|meter| {
        match meter.items_left.get().checked_sub(count) {
            Some(left) => meter.items_left.set(left),
            None => pass(Limit::Steps),
        }
        meter.passed.get().is_none()
    })
}

/// Account for bytes that are about to be produced or looked through. `false`: they may not.
pub(crate) fn work(bytes: u64) -> bool {
    METER.with(|meter| {
        let left = meter.work_left.get();
        if left < bytes {
            pass(Limit::Work);
            return false;
        }
        meter.work_left.set(left - bytes);
        true
    })
}

/// End the program at its next step, for having passed this limit. The first one is the one that is reported.
pub(crate) fn pass(limit: Limit) {
    METER.with(|meter| {
        meter.work_left.set(0);
        meter.passed.set(meter.passed.get().or(Some(limit)));
    });
}

/// Which limit the evaluation has passed so far.
pub(crate) fn passed() -> Option<Limit> {
    METER.with(|meter| meter.passed.get())
}

#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}
