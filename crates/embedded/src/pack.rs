//! Events as bytes: attributes as JSON, data untouched, several in a row, with a checksum at the end.
//!
//! SQLite does not check the content of its pages; a flipped bit in a payload must not reach another system.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_core::Event;

/// Why bytes are not a pack.
pub(crate) type Broken = &'static str;

/// The attributes of an event, without its data.
pub(crate) fn attributes(event: &Event) -> Vec<u8> {
    serde_json::to_vec(event).expect("an event's attributes are text and times")
}

/// Appends one event to an open pack.
pub(crate) fn push(pack: &mut Vec<u8>, attributes: &[u8], data: &[u8]) {
    push_length(pack, attributes.len());
    push_length(pack, data.len());
    pack.extend_from_slice(attributes);
    pack.extend_from_slice(data);
}

/// Ends a pack with its checksum.
pub(crate) fn seal(pack: &mut Vec<u8>) {
    let checksum = crc32fast::hash(pack);
    pack.extend_from_slice(&checksum.to_le_bytes());
}

/// A pack of one event.
pub(crate) fn single(event: &Event) -> Vec<u8> {
    let attributes = attributes(event);
    let mut pack = Vec::with_capacity(attributes.len() + event.data.len() + 16);
    push(&mut pack, &attributes, &event.data);
    seal(&mut pack);
    pack
}

/// Calls `each` with every event from the `skip`th on. Data is copied, so that one event does not keep its pack alive.
pub(crate) fn open(pack: &[u8], skip: usize, mut each: impl FnMut(Arc<Event>)) -> Result<(), Broken> {
    let (mut rest, checksum) = pack.split_last_chunk::<4>().ok_or("too short")?;
    if crc32fast::hash(rest) != u32::from_le_bytes(*checksum) {
        return Err("the checksum does not fit");
    }
    let mut index = 0;
    while !rest.is_empty() {
        let attributes_length = pull_length(&mut rest)?;
        let data_length = pull_length(&mut rest)?;
        let (attributes, after) = rest.split_at_checked(attributes_length).ok_or("cut short")?;
        let (data, after) = after.split_at_checked(data_length).ok_or("cut short")?;
        rest = after;
        if index >= skip {
            let event: Event = serde_json::from_slice(attributes).map_err(|_| "attributes are not JSON")?;
            each(Arc::new(Event { data: Bytes::copy_from_slice(data), ..event }));
        }
        index += 1;
    }
    Ok(())
}

/// The only event of a pack of one.
pub(crate) fn open_single(pack: &[u8]) -> Result<Arc<Event>, Broken> {
    let mut single = None;
    open(pack, 0, |event| single = Some(event))?;
    single.ok_or("no event in it")
}

fn push_length(pack: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        pack.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    pack.push(length as u8);
}

fn pull_length(bytes: &mut &[u8]) -> Result<usize, Broken> {
    let mut length = 0;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or("cut short")?;
        *bytes = rest;
        length |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err("a length is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, data: &[u8]) -> Event {
        let json = format!(r#"{{"id":"{id}","source":"s","type":"t","partitionkey":"k"}}"#);
        Event { data: Bytes::copy_from_slice(data), ..serde_json::from_str(&json).unwrap() }
    }

    #[test]
    fn events_come_out_as_they_went_in() {
        let events = [event("a", b""), event("b", &[7; 300]), event("c", b"\0")];
        let mut pack = Vec::new();
        for event in &events {
            push(&mut pack, &attributes(event), &event.data);
        }
        seal(&mut pack);
        let mut out = Vec::new();
        open(&pack, 1, |event| out.push(event)).unwrap();
        assert_eq!(out.iter().map(|event| &**event).collect::<Vec<_>>(), [&events[1], &events[2]]);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let pack = single(&event("a", b"data"));
        for at in 0..pack.len() {
            let mut broken = pack.clone();
            broken[at] ^= 1;
            assert!(open_single(&broken).is_err(), "byte {at}");
            assert!(open_single(&pack[..at]).is_err(), "cut at {at}");
        }
    }
}
