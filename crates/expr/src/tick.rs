//! The native filters that end a program which runs too long or too deep.

use jaq_core::box_iter::box_once;
use jaq_core::native::{Fun, v};
use jaq_core::{Cv, Exn, Native, ValX};

use crate::Limit;
use crate::library::Data;
use crate::limits;
use crate::value::Val;

/// Takes a step, and passes its input through.
pub(crate) const TICK: &str = "!tick";

/// Passes its input through if there is stack left, without taking a step.
pub(crate) const CHECK: &str = "!check";

/// Ends the program if its argument, the depth of a recursion, is too large; else passes its input through.
pub(crate) const DEEPEN: &str = "!deepen";

/// Longest path (as in `path(f)`) while a program computes it. jaq frees a path recursively.
const PATH_PARTS_MAX: usize = 1_000;

/// How deep a definition may call itself with filters as arguments. Each holds the one before, and jaq frees them
/// recursively.
const FILTERS_DEPTH_MAX: isize = 500;

/// The exception that ends a program: jaq's `halt`, which nothing in a program catches.
pub(crate) fn stop<'a>() -> Exn<'a, Val> {
    Exn::halt(0)
}

/// The native filters of this module.
pub(crate) fn functions() -> [Fun<Data>; 3] {
    [(TICK, v(0), steps::<1>()), (CHECK, v(0), steps::<0>()), (DEEPEN, v(1), deepen())]
}

fn steps<const COUNT: u32>() -> Native<Data> {
    Native::new(|cv| box_once(pass(limits::steps(COUNT), cv.1)))
        .with_paths(|cv| {
            if cv.1.1.skip(PATH_PARTS_MAX).head().is_some() {
                limits::pass(Limit::Depth);
            }
            box_once(pass(limits::steps(COUNT), cv.1))
        })
        .with_update(|cv, f| if limits::steps(COUNT) { f(cv.1) } else { box_once(Err(stop())) })
}

fn deepen() -> Native<Data> {
    Native::new(|mut cv| box_once(pass(shallow(&mut cv), cv.1)))
        .with_paths(|mut cv| box_once(pass(shallow(&mut cv), cv.1)))
        .with_update(|mut cv, f| if shallow(&mut cv) { f(cv.1) } else { box_once(Err(stop())) })
}

fn pass<'a, T>(allowed: bool, input: T) -> ValX<'a, T, Val> {
    if allowed { Ok(input) } else { Err(stop()) }
}

fn shallow<T>(cv: &mut Cv<'_, Data, T>) -> bool {
    let shallow = cv.0.pop_var() < Val::from(FILTERS_DEPTH_MAX);
    if !shallow {
        limits::pass(Limit::Depth);
    }
    shallow
}
