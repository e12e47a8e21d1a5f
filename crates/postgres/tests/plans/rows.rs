//! Tables as a busy hub has them after a bad day.

use crossdock_postgres::{Postgres, Purpose};

/// 60,000 rows each: held events in six places with ten events a key, open letters in 30 groups, the items of a replay of settled
/// letters, and events in the outbox.
const FILL: &str = "
    INSERT INTO crossdock.places (flow, topic, partition)
        SELECT 'flow-' || f, 'orders', p FROM generate_series(0, 5) p, generate_series(0, 1) f;
    INSERT INTO crossdock.held (place, log_offset, key_hash, event_hash, due, tried, attempts, event, data)
        SELECT 1 + n % 6, n, n / 10, n, CASE WHEN n % 10 = 0 THEN now() + n * interval '1 ms' END, 0, '[]', convert_to(format('{\"id\":\"h%s\",\"source\":\"/s\",\"type\":\"t\"}', n), 'UTF8'),
               decode(repeat('ab', 200), 'hex')
        FROM generate_series(1, 60000) n;
    INSERT INTO crossdock.failure_groups (id, flow, connection, step, action, class, message, first_at, last_at, open,
                                          discarded)
        SELECT ('g' || g)::bytea, 'flow-0', 'crm', 'call', 'post', 'rejected', 'no', now(), now(), 1500, 500
        FROM generate_series(1, 30) g;
    INSERT INTO crossdock.letters (failure_group, log_offset, event_hash, failed_at, settled_at, place, state, replays, tries, id,
                                   event_id, kind, message)
        SELECT 1 + n % 30, n, n, now() - n * interval '1 ms', CASE WHEN n % 4 = 0 THEN now() END, 1 + n % 6,
               CASE WHEN n % 4 = 0 THEN 3 ELSE 0 END, 0, 1, ('d' || n)::bytea, ('e' || n)::bytea, 'k', 'no'
        FROM generate_series(1, 60000) n;
    INSERT INTO crossdock.letter_bodies (number, reason, idempotency_key, attempts, event, data)
        SELECT number, 'no', 'i', '[]',
               convert_to(format('{\"id\":\"e%s\",\"source\":\"/s\",\"type\":\"t\"}', log_offset), 'UTF8'),
               decode(repeat('ab', 200), 'hex')
        FROM crossdock.letters;
    INSERT INTO crossdock.replays (id, state, selection, actor, reason, total, created_at)
        SELECT ('r' || r)::bytea, 'succeeded', '{}', 'a', 'b', 2000, now() FROM generate_series(1, 30) r;
    INSERT INTO crossdock.replay_items (replay, item, letter, place, state)
        SELECT 1 + n / 2000, n % 2000, n, 1, 2 FROM generate_series(0, 59999) n;
    INSERT INTO crossdock.outbox (aggregatetype, aggregateid, type, payload)
        SELECT 'topic-' || n % 5, 'k' || n % 100, 't', decode(repeat('ab', 200), 'hex') FROM generate_series(1, 60000) n;
    -- As the relay does with a partition that is full.
    CREATE INDEX ON crossdock.outbox_1 (id);
    CREATE INDEX ON crossdock.outbox_1 (aggregatetype, seq)";

/// The planner knows empty tables, and goes on to: as in the minutes in which an outage begins.
const FORGET: &str = "
    ANALYZE crossdock.held; ALTER TABLE crossdock.held SET (autovacuum_enabled = false);
    ANALYZE crossdock.letters; ALTER TABLE crossdock.letters SET (autovacuum_enabled = false)";

/// Fills them.
pub async fn fill(store: &Postgres) {
    run(store, FORGET).await;
    run(store, FILL).await;
}

/// As autovacuum does after a while.
pub async fn vacuum(store: &Postgres) {
    run(store, "VACUUM ANALYZE").await;
}

async fn run(store: &Postgres, sql: &'static str) {
    let done = store.call(Purpose::Admin, "preparing tables", move |connection| {
        Box::pin(async move {
            sqlx::raw_sql("SET statement_timeout = 0").execute(&mut *connection).await?;
            sqlx::raw_sql(sql).execute(connection).await?;
            Ok(())
        })
    });
    done.await.expect("it is done");
}
