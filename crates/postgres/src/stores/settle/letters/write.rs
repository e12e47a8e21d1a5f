//! The statements that write letters: one for each table, whatever the number of letters.

use crossdock_core::DeadLetter;
use sqlx::PgConnection;

use crate::stores::{
    letter::{request_json, state_number},
    rows::{At, at, attempts_json, attributes_json},
};

use super::{LetterNumber, Slot};

/// Texts and payloads as they are bound.
type Column<'s> = Vec<Option<&'s [u8]>>;

/// Adds letters. One that somebody else has added meanwhile (`letters_delivery`) undoes all of it, and it is tried again.
pub(super) async fn insert(
    connection: &mut PgConnection,
    new: &[Slot],
    group: impl Fn(&Slot) -> i64,
) -> Result<(), sqlx::Error> {
    if new.is_empty() {
        return Ok(());
    }
    let numbers = "SELECT nextval('crossdock.letters_number_seq') FROM generate_series(1, $1)";
    let numbers: Vec<LetterNumber> =
        sqlx::query_scalar(numbers).bind(new.len() as i32).fetch_all(&mut *connection).await?;
    insert_rows(connection, new, &numbers, group).await?;
    insert_bodies(connection, new, &numbers).await
}

async fn insert_rows(
    connection: &mut PgConnection,
    new: &[Slot],
    numbers: &[LetterNumber],
    group: impl Fn(&Slot) -> i64,
) -> Result<(), sqlx::Error> {
    let origin = |of: fn(&DeadLetter) -> &str| -> Column<'_> {
        new.iter().map(|slot| Some(of(slot.origin()).as_bytes())).collect()
    };
    let replays = |slot: &Slot| i64::from(slot.origin().replays) + i64::from(slot.replays);
    sqlx::query(
        "INSERT INTO crossdock.letters (number, failure_group, log_offset, event_hash, failed_at, settled_at, place, state,
                                        replays, tries, id, event_id, kind, key, message)
         OVERRIDING SYSTEM VALUE
         SELECT * FROM unnest(
             $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::integer[],
             $8::smallint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[], $15::bytea[]
         )",
    )
    .bind(numbers)
    .bind(new.iter().map(group).collect::<Vec<_>>())
    .bind(new.iter().map(|slot| slot.delivery.1).collect::<Vec<_>>())
    .bind(new.iter().map(|slot| slot.delivery.2).collect::<Vec<_>>())
    .bind(new.iter().map(|slot| at(slot.content().failed_at)).collect::<Vec<At>>())
    .bind(new.iter().map(|slot| slot.settled_at.map(at)).collect::<Vec<Option<At>>>())
    .bind(new.iter().map(|slot| slot.delivery.0).collect::<Vec<_>>())
    .bind(new.iter().map(|slot| state_number(slot.state)).collect::<Vec<_>>())
    .bind(new.iter().map(replays).collect::<Vec<_>>())
    .bind(new.iter().map(Slot::tries).collect::<Vec<_>>())
    .bind(origin(|letter| &letter.id))
    .bind(origin(|letter| &letter.event.id))
    .bind(origin(|letter| &letter.event.kind))
    .bind(content(new, |letter| letter.key.as_deref()))
    .bind(content(new, |letter| Some(&letter.message)))
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_bodies(
    connection: &mut PgConnection,
    new: &[Slot],
    numbers: &[LetterNumber],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO crossdock.letter_bodies (number, reason, advice, idempotency_key, attempts, request, request_body,
                                              event, data)
         SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[],
                              $8::bytea[], $9::bytea[])",
    )
    .bind(numbers)
    .bind(content(new, |letter| Some(&letter.reason)))
    .bind(content(new, |letter| letter.advice.as_deref()))
    .bind(content(new, |letter| Some(&letter.idempotency_key)))
    .bind(new.iter().map(Slot::attempts).collect::<Vec<_>>())
    .bind(new.iter().map(|slot| request_json(slot.content())).collect::<Vec<_>>())
    .bind(new.iter().map(|slot| request_body(slot.content())).collect::<Column<'_>>())
    .bind(new.iter().map(|slot| attributes_json(&slot.origin().event)).collect::<Vec<_>>())
    .bind(new.iter().map(|slot| slot.origin().event.data.as_ref()).collect::<Vec<&[u8]>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Texts of letters that are not stored yet.
fn content(new: &[Slot], of: fn(&DeadLetter) -> Option<&str>) -> Column<'_> {
    new.iter().map(|slot| Some(of(slot.content())?.as_bytes())).collect()
}

/// Writes what has changed of letters that are stored and locked, each statement by the primary key.
pub(super) async fn update(
    connection: &mut PgConnection,
    stored: &[Slot],
    group: impl Fn(&Slot) -> i64,
) -> Result<(), sqlx::Error> {
    let changed: Vec<&Slot> =
        stored.iter().filter(|slot| slot.changed.state || slot.changed.attempts).collect();
    if changed.is_empty() {
        return Ok(());
    }
    update_rows(connection, &changed, group).await?;
    let tried: Vec<&Slot> = changed.iter().copied().filter(|slot| slot.changed.attempts).collect();
    if !tried.is_empty() {
        update_attempts(connection, &tried).await?;
    }
    let anew: Vec<&Slot> = changed.into_iter().filter(|slot| slot.content.is_some()).collect();
    if !anew.is_empty() {
        update_bodies(connection, &anew).await?;
    }
    Ok(())
}

async fn update_rows(
    connection: &mut PgConnection,
    changed: &[&Slot],
    group: impl Fn(&Slot) -> i64,
) -> Result<(), sqlx::Error> {
    let text = |of: fn(&DeadLetter) -> Option<&str>| -> Column<'_> {
        changed.iter().map(|slot| Some(of(slot.content.as_deref()?)?.as_bytes())).collect()
    };
    let failed_at = changed.iter().map(|slot| Some(at(slot.content.as_deref()?.failed_at)));
    sqlx::query(
        "UPDATE crossdock.letters l SET
             state = n.state, settled_at = n.settled_at, failure_group = n.failure_group, replays = l.replays + n.replays,
             tries = coalesce(n.tries, l.tries), failed_at = coalesce(n.failed_at, l.failed_at),
             message = coalesce(n.message, l.message),
             key = CASE WHEN n.message IS NULL THEN l.key ELSE n.key END
         FROM unnest($1::bigint[], $2::smallint[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[],
                     $7::timestamptz[], $8::bytea[], $9::bytea[])
              AS n (number, state, settled_at, failure_group, replays, tries, failed_at, message, key)
         WHERE l.number = n.number",
    )
    .bind(changed.iter().map(|slot| slot.number).collect::<Vec<_>>())
    .bind(changed.iter().map(|slot| state_number(slot.state)).collect::<Vec<_>>())
    .bind(changed.iter().map(|slot| slot.settled_at.map(at)).collect::<Vec<Option<At>>>())
    .bind(changed.iter().map(|slot| group(slot)).collect::<Vec<_>>())
    .bind(changed.iter().map(|slot| i64::from(slot.replays)).collect::<Vec<_>>())
    .bind(changed.iter().map(|slot| slot.changed.attempts.then(|| slot.tries())).collect::<Vec<_>>())
    .bind(failed_at.collect::<Vec<Option<At>>>())
    .bind(text(|letter| Some(&letter.message)))
    .bind(text(|letter| letter.key.as_deref()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn update_attempts(connection: &mut PgConnection, tried: &[&Slot]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE crossdock.letter_bodies b SET attempts = n.attempts
         FROM unnest($1::bigint[], $2::bytea[]) AS n (number, attempts) WHERE b.number = n.number",
    )
    .bind(tried.iter().map(|slot| slot.number).collect::<Vec<_>>())
    .bind(tried.iter().map(|slot| slot.attempts()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn update_bodies(connection: &mut PgConnection, anew: &[&Slot]) -> Result<(), sqlx::Error> {
    let text = |of: fn(&DeadLetter) -> Option<&str>| -> Column<'_> {
        anew.iter().map(|slot| Some(of(slot.content.as_deref()?)?.as_bytes())).collect()
    };
    let request = |slot: &&Slot| request_json(slot.content.as_deref()?);
    sqlx::query(
        "UPDATE crossdock.letter_bodies b SET reason = n.reason, advice = n.advice, idempotency_key = n.idempotency_key,
             request = n.request, request_body = n.request_body
         FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])
              AS n (number, reason, advice, idempotency_key, request, request_body)
         WHERE b.number = n.number",
    )
    .bind(anew.iter().map(|slot| slot.number).collect::<Vec<_>>())
    .bind(text(|letter| Some(&letter.reason)))
    .bind(text(|letter| letter.advice.as_deref()))
    .bind(text(|letter| Some(&letter.idempotency_key)))
    .bind(anew.iter().map(request).collect::<Vec<_>>())
    .bind(anew.iter().map(|slot| request_body(slot.content.as_deref()?)).collect::<Column<'_>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn request_body(letter: &DeadLetter) -> Option<&[u8]> {
    letter.request.as_ref().map(|request| request.body.as_ref())
}

impl Slot {
    /// What a letter that is not stored yet was made from.
    fn origin(&self) -> &DeadLetter {
        self.origin.as_deref().expect("a letter without a number was made in this batch")
    }

    /// What a letter that is not stored yet died of.
    fn content(&self) -> &DeadLetter {
        self.content.as_deref().unwrap_or_else(|| self.origin())
    }

    fn tries(&self) -> i64 {
        self.attempts.as_ref().map_or(0, Vec::len) as i64
    }

    fn attempts(&self) -> Vec<u8> {
        attempts_json(self.attempts.as_deref().unwrap_or_default())
    }
}
