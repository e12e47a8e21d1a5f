//! Publishing: a few lanes with one channel each, on a connection of their own.
//!
//! ```text
//! publish ─► Line: stamps, one queue for each lane ─► Lane: all messages of a call in one go ─► RabbitMQ
//!    ▲                                                   │
//!    └──────────── answers, one for each event ◄── Flight: confirms, in the order of publishing
//! ```
//!
//! A shard always takes the same lane, so its events reach the broker in the order of the first polls of `publish`.
//!
//! **Order after a failure.** A channel that dies leaves the broker with the beginning of what was sent on it. So everything
//! that was not confirmed by then is given back: what was sent is unknown, what still waited in the lane is not sent at all, and
//! the lane takes nothing until every caller has its answers. Whoever publishes again from the first event that was
//! not taken keeps the order of first deliveries. An event that the broker refuses alone (a full queue, no queue at all) does
//! not break the lane; later events of its key in the same call are then unknown, whatever the broker said. Those
//! may already be in the queue before the refused one is: a broker that refuses by limits of length turns the order
//! of first deliveries, which is why such a limit is a finding.

mod flight;
mod lane;
mod line;
mod silence;

pub(crate) use lane::{Lane, Surroundings};
pub(crate) use line::{LANES, Limits, Line};
