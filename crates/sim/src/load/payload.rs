//! What a load sends.

use std::{fmt::Write, sync::Arc};

use bytes::Bytes;

/// Which request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The connection, from 0.
    pub connection: usize,
    /// How many there are.
    pub connections: usize,
    /// The number of the request on its connection, from 0.
    pub nth: u64,
    /// The time of sending, in nanoseconds since 1970.
    pub sent_ns: u64,
}

/// A maker of request bodies.
#[derive(Clone)]
pub struct Payload {
    /// The media type.
    pub content_type: &'static str,
    /// Events in one request.
    pub events: u64,
    make: Arc<dyn Fn(Slot) -> Bytes + Send + Sync>,
}

impl Payload {
    /// Any body.
    pub fn new(
        content_type: &'static str,
        events: u64,
        make: impl Fn(Slot) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Self { content_type, events, make: Arc::new(make) }
    }

    /// One CloudEvent per request, in the structured form. Ids are `{run}-{connection}-{number}`, keys `k{0..keys}`; the data
    /// holds `key`, `seq` (from 0 within the key), `sent_ns` and a filling of so many bytes.
    pub fn single(run: &str, keys: usize, filling: usize) -> Self {
        let maker = Events { run: run.to_owned(), keys, filling: "x".repeat(filling) };
        Self::new("application/cloudevents+json", 1, move |slot| {
            let mut body = String::with_capacity(512 + filling);
            maker.write(&mut body, slot, slot.nth);
            body.into()
        })
    }

    /// Like [`Payload::single`], so many in one request.
    pub fn batch(run: &str, size: u64, keys: usize, filling: usize) -> Self {
        let maker = Events { run: run.to_owned(), keys, filling: "x".repeat(filling) };
        Self::new("application/cloudevents-batch+json", size, move |slot| {
            let mut body = String::with_capacity((512 + filling) * usize::try_from(size).unwrap_or(1));
            for event in 0..size {
                body.push(if event == 0 { '[' } else { ',' });
                maker.write(&mut body, slot, slot.nth * size + event);
            }
            body.push(']');
            body.into()
        })
    }

    pub(super) fn make(&self, slot: Slot) -> Bytes {
        (self.make)(slot)
    }
}

struct Events {
    run: String,
    keys: usize,
    filling: String,
}

impl Events {
    /// Writes a connection's event of that number. A connection has the keys `connection + n * connections`.
    fn write(&self, body: &mut String, slot: Slot, number: u64) {
        let own = (self.keys / slot.connections).max(1) as u64;
        let key = slot.connection as u64 + slot.connections as u64 * (number % own);
        let (run, connection, seq, sent_ns) = (&self.run, slot.connection, number / own, slot.sent_ns);
        write!(
            body,
            r#"{{"specversion":"1.0","id":"{run}-{connection}-{number}","source":"/load","type":"load.event","#
        )
        .and_then(|()| write!(body, r#""partitionkey":"k{key}","datacontenttype":"application/json","#))
        .and_then(|()| write!(body, r#""data":{{"key":"k{key}","seq":{seq},"sent_ns":{sent_ns},"#))
        .and_then(|()| write!(body, r#""filling":"{}"}}}}"#, self.filling))
        .expect("writing to a String does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_no_key_and_count_each_from_zero() {
        let payload = Payload::batch("r", 50, 10, 8);
        let mut next = std::collections::HashMap::new();
        let mut owner = std::collections::HashMap::new();
        for (connection, nth) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let body = payload.make(Slot { connection, connections: 2, nth, sent_ns: 5 });
            let events: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
            for event in events {
                let key = event["partitionkey"].as_str().unwrap().to_owned();
                assert_eq!(*owner.entry(key.clone()).or_insert(connection), connection);
                let seq: &mut u64 = next.entry(key).or_default();
                assert_eq!(event["data"]["seq"], *seq);
                *seq += 1;
            }
        }
        assert_eq!(next.len(), 10);
    }
}
