//! Dead letters as rows.

use bytes::Bytes;
use crossdock_core::{
    Class, ConnectionName, DeadLetter, FlowName, GroupId, LetterState, LetterSummary, MappedRequest,
    StoreError,
};
use sqlx::postgres::PgRow;

use super::rows::{self, Columns};

/// A state as it is stored.
pub(super) fn state_number(state: LetterState) -> i16 {
    match state {
        LetterState::Open => 0,
        LetterState::Replaying => 1,
        LetterState::Replayed => 2,
        LetterState::Discarded => 3,
    }
}

/// A stored state.
pub(super) fn state_of(number: i16) -> LetterState {
    match number {
        1 => LetterState::Replaying,
        2 => LetterState::Replayed,
        3 => LetterState::Discarded,
        _ => LetterState::Open,
    }
}

/// The request of a letter as it is stored, without its body.
pub(super) fn request_json(letter: &DeadLetter) -> Option<Vec<u8>> {
    let json = |request| serde_json::to_vec(request).expect("a request is texts and JSON");
    letter.request.as_ref().map(json)
}

/// What [`summary`] reads, of `letters l`, its group `g` and its place `p`.
pub(super) const SUMMARY: &str = "l.number, l.id, l.state, g.id, l.event_id, l.kind, l.key, p.flow, g.connection, g.class, \
                                  g.status, g.code, l.message, l.tries, l.replays, l.failed_at";

/// Reads a letter as it stands in a list, from a row of [`SUMMARY`].
pub(super) fn summary(row: &PgRow) -> Result<LetterSummary, StoreError> {
    let id = row.text(1)?;
    let damaged = |what: &str| StoreError::Damaged(format!("the {what} of the dead letter {id}"));
    Ok(LetterSummary {
        state: state_of(row.at(2)?),
        group: GroupId::from(row.text(3)?),
        event: row.text(4)?,
        kind: row.text(5)?,
        key: row.text_or_none(6)?,
        flow: FlowName::new(row.at(7)?).map_err(|_| damaged("flow"))?,
        connection: ConnectionName::new(row.at(8)?).map_err(|_| damaged("connection"))?,
        class: Class::parse(row.at(9)?).ok_or_else(|| damaged("class"))?,
        status: status(row, 10)?,
        code: row.text_or_none(11)?,
        message: row.text(12)?,
        attempts: rows::small(row.number(13)?)?,
        replays: rows::small(row.number(14)?)?,
        failed_at: row.moment(15)?,
        id,
    })
}

/// What [`letter`] reads, of `letters l`, its body `b`, its group `g` and its place `p`.
pub(super) const LETTER: &str = "l.number, l.id, l.state, g.id, p.flow, g.step, g.connection, g.action, p.topic, p.partition, \
                                 l.log_offset, l.key, b.event, b.data, b.request, b.request_body, b.idempotency_key, \
                                 g.class, g.status, g.code, l.message, b.reason, b.advice, b.attempts, l.failed_at, \
                                 l.replays";
/// Where [`LETTER`] comes from, each by its primary key.
pub(super) const WITH_BODY: &str = "JOIN crossdock.letter_bodies b USING (number) \
                                    JOIN crossdock.failure_groups g ON g.number = l.failure_group \
                                    JOIN crossdock.places p ON p.place = l.place";

/// Reads a letter from a row of [`LETTER`].
pub(super) fn letter(row: &PgRow) -> Result<DeadLetter, StoreError> {
    let id = row.text(1)?;
    let damaged = |what: &str| StoreError::Damaged(format!("the {what} of the dead letter {id}"));
    Ok(DeadLetter {
        state: state_of(row.at(2)?),
        group: GroupId::from(row.text(3)?),
        flow: FlowName::new(row.at(4)?).map_err(|_| damaged("flow"))?,
        step: row.text(5)?,
        connection: ConnectionName::new(row.at(6)?).map_err(|_| damaged("connection"))?,
        action: row.text(7)?,
        position: rows::position(row, 8, 9, 10)?,
        key: row.text_or_none(11)?,
        event: rows::event(row.at(12)?, row.at(13)?)?,
        request: request(row).map_err(|_| damaged("request"))?,
        idempotency_key: row.text(16)?,
        class: Class::parse(row.at(17)?).ok_or_else(|| damaged("class"))?,
        status: status(row, 18)?,
        code: row.text_or_none(19)?,
        message: row.text(20)?,
        reason: row.text(21)?,
        advice: row.text_or_none(22)?,
        attempts: rows::attempts(row.at(23)?)?,
        failed_at: row.moment(24)?,
        replays: rows::small(row.number(25)?)?,
        id,
    })
}

fn request(row: &PgRow) -> Result<Option<MappedRequest>, StoreError> {
    let Some(json) = row.at::<Option<&[u8]>, _>(14)? else { return Ok(None) };
    let body = Bytes::copy_from_slice(row.at::<Option<&[u8]>, _>(15)?.unwrap_or_default());
    let request: MappedRequest =
        serde_json::from_slice(json).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(Some(MappedRequest { body, ..request }))
}

/// The status of a group.
pub(super) fn status(row: &PgRow, index: usize) -> Result<Option<u16>, StoreError> {
    let wrong = |_| StoreError::Damaged("a status is out of range".to_owned());
    row.at::<Option<i32>, _>(index)?.map(|status| u16::try_from(status).map_err(wrong)).transpose()
}
