//! engine
#![allow(missing_docs)]
mod plan;
mod status;
pub use plan::*;
pub use status::*;
