//! Configuration: from YAML to what the hub runs.
//!
//! The text becomes a tree that knows the place of everything ([`yaml`]); the tree is read field by field against what the
//! connectors say of themselves, references are put into scalars, expressions are compiled. One reading collects
//! everything that is wrong, with its place and the way out.

mod adapters;
mod connections;
mod duration;
mod expression;
mod flows;
mod limits;
mod load;
mod place;
mod problem;
mod reader;
mod reference;
mod render;
mod retry;
mod server;
mod servers;
mod settings;
mod target;
mod topics;
mod yaml;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use duration::{DURATION_HELP, RATE_HELP, duration, rate};
pub use load::{Loaded, load};
pub use problem::Problems;
pub use render::Look;
pub use servers::{Carrier, Store};
pub use topics::TopicPlan;
