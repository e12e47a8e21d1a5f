//! The reader: pages, one ahead of the caller.

use std::sync::Arc;

use async_trait::async_trait;
use crossdock_core::{OutboxPage, OutboxReader, PageMark, RefusedEvent, StoreError};
use tokio::task::JoinHandle;

use super::{office::Office, pages::Pages, row::Read};

/// The reader in office.
pub(crate) struct Reader {
    office: Arc<Office>,
    ahead: tokio::sync::Mutex<Ahead>,
    upkeep: JoinHandle<()>,
}

/// The next page is read while the caller works on the last one, if there is one.
enum Ahead {
    Idle(Box<Pages>),
    Reading(JoinHandle<(Box<Pages>, Result<OutboxPage, StoreError>)>),
    /// Only while one becomes the other.
    Between,
}

impl Reader {
    /// `upkeep` ends with the reader.
    pub(crate) fn new(office: Arc<Office>, pages: Pages, upkeep: JoinHandle<()>) -> Self {
        Self { office, ahead: tokio::sync::Mutex::new(Ahead::Idle(Box::new(pages))), upkeep }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Its calls to the database run in tasks of their own.
        self.upkeep.abort();
    }
}

impl Ahead {
    fn start(mut pages: Box<Pages>) -> Self {
        Self::Reading(tokio::spawn(async move {
            let page = pages.next().await;
            (pages, page)
        }))
    }
}

#[async_trait]
impl OutboxReader for Reader {
    async fn read(&self) -> Result<OutboxPage, StoreError> {
        let mut ahead = self.ahead.lock().await;
        self.office.confirm().await?;
        if matches!(*ahead, Ahead::Idle(_)) {
            *ahead = match std::mem::replace(&mut *ahead, Ahead::Between) {
                Ahead::Idle(pages) => Ahead::start(pages),
                other => other,
            };
        }
        let Ahead::Reading(reading) = &mut *ahead else {
            // Its task was cancelled with the runtime.
            return Err(StoreError::Unavailable {
                doing: "reading the outbox",
                source: "the process is ending".into(),
            });
        };
        let read = reading.await;
        *ahead = Ahead::Between;
        let (pages, page) = match read {
            Ok(read) => read,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => {
                return Err(StoreError::Unavailable { doing: "reading the outbox", source: error.into() });
            }
        };
        let more = page.as_ref().is_ok_and(|page| page.more);
        *ahead = if more { Ahead::start(pages) } else { Ahead::Idle(pages) };
        page
    }

    async fn advance(&self, mark: PageMark, refused: Vec<RefusedEvent>) -> Result<(), StoreError> {
        self.office.advance(mark, refused).await
    }

    async fn renew(&self) -> Result<(), StoreError> {
        self.office.renew().await
    }

    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        self.office.release().await
    }
}

/// Rows as the port gives them.
pub(crate) fn page(mark: PageMark, rows: Vec<super::row::OutboxRow>, more: bool) -> OutboxPage {
    let mut page = OutboxPage { mark, events: Vec::with_capacity(rows.len()), malformed: Vec::new(), more };
    for row in rows {
        match row.read {
            Read::Event(event) => page.events.push(event),
            Read::Malformed(refused) => page.malformed.push(refused),
        }
    }
    page
}
