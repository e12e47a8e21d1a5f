//! Taking events in.

use std::sync::Arc;

use crate::{PostgresOptions, pool::Pools};

/// The writer of events that come in.
pub(crate) struct Intake;

impl Intake {
    pub(crate) fn start(_: Arc<PostgresOptions>, _: Arc<Pools>) -> Self {
        Self
    }

    pub(crate) async fn close(&self) {}
}
