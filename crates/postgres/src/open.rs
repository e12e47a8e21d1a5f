//! Opening the database.

use std::sync::Arc;

use crossdock_core::StoreError;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    PostgresOptions,
    check::{self, Obstacle},
    errors::Failure,
    outbox::Intake,
    pool::{Pools, Purpose},
    stores::Places,
};

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is away, starting or full: it may be asked again later.
    #[error("the database {place} is not available: {why}")]
    Away {
        /// Host, port and database.
        place: String,
        /// What went wrong.
        why: String,
    },
    /// Somebody must change something; waiting does not help.
    #[error("the database {place} cannot be used: {why}; {remedy}")]
    Refused {
        /// Host, port and database.
        place: String,
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
}

impl OpenError {
    /// Whether waiting does not help.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// The database. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Postgres {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Arc<PostgresOptions>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) intake: Intake,
    pub(crate) places: Places,
}

impl Postgres {
    /// Opens the database: it answers, is a primary server of a version that is known, and lets the user in. Whether the
    /// tables are there is not asked; see [`Postgres::migrate`].
    pub async fn open(options: PostgresOptions) -> Result<Self, OpenError> {
        let place = options.place();
        let facts = check::connect(&options).await.map_err(|obstacle| match obstacle {
            Obstacle { passes: true, why, .. } => OpenError::Away { place: place.clone(), why },
            Obstacle { why, remedy, .. } => OpenError::Refused { place: place.clone(), why, remedy },
        })?;
        facts.usable().map_err(|Obstacle { why, remedy, .. }| OpenError::Refused { place, why, remedy })?;
        let (options, pools) = (Arc::new(options.clone()), Arc::new(Pools::new(&options)));
        let intake = Intake::start(options.clone(), pools.clone());
        Ok(Self { inner: Arc::new(Inner { options, pools, intake, places: Places::default() }) })
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &PostgresOptions {
        &self.inner.options
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.options.clock.now()
    }

    /// The connections for a purpose. Whoever uses them puts a time limit around every call (see [`within`](crate::within)) and closes the connection
    /// of a call that ran out of it; [`Postgres::call`] does both.
    pub fn pool(&self, purpose: Purpose) -> &PgPool {
        self.inner.pools.of(purpose)
    }

    /// Asks the database something on one connection, in a task of its own: it is done to its end also if the caller is dropped.
    /// Its limit is that of the options; a connection that ran out of it is closed, and an error says that the outcome is
    /// not known.
    pub async fn call<T, F>(&self, purpose: Purpose, doing: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + 'static,
    {
        self.inner.pools.call(purpose, doing, work).await
    }

    /// Like [`Postgres::call`], in a transaction, which is committed if `work` succeeds and undone if it fails or refuses.
    pub async fn change<T, F>(&self, purpose: Purpose, doing: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + 'static,
    {
        self.call(purpose, doing, |connection| {
            Box::pin(async move {
                let mut transaction = connection.begin().await?;
                let value = work(&mut transaction).await?;
                transaction.commit().await?;
                Ok(value)
            })
        })
        .await
    }

    /// Answers what waits for its commit, then closes all connections. Whoever asks later is told that it is closed.
    pub async fn close(&self) {
        self.inner.intake.close().await;
        self.inner.pools.close().await;
    }
}
