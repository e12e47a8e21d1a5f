-- What deliveries leave behind (held events, dead letters, replays), and what workers share (owners, leases, states).
--
-- Texts that come from outside are bytea, in UTF-8: they may hold any characters, also those that text refuses. Names are
-- text: they are checked (a-z A-Z 0-9 . _ -).

-- A partition in a flow, with the number that stands for it everywhere else. `epoch` counts its owners: whoever settles
-- deliveries holds this row FOR SHARE until the commit, whoever takes the partition over raises the epoch.
CREATE TABLE crossdock.places (
    place integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    UNIQUE (flow, topic, partition)
) WITH (fillfactor = 50);
-- The places of an event, over all flows.
CREATE INDEX places_partition ON crossdock.places (topic, partition);

-- Ids are never used twice: a settlement that is repeated must not meet another row. A payload is not compressed: it stays
-- for a while only. Rows come and go all day, so vacuum follows the rows and not a share of the table.
CREATE TABLE crossdock.held (
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    place integer NOT NULL,
    log_offset bigint NOT NULL,
    key_hash bigint NOT NULL,
    event_hash bigint NOT NULL, -- the first 8 bytes of the SHA-256 of the event's id, which may be longer than an index takes
    due timestamptz,
    first_tried_at timestamptz,
    item bigint,
    tried bigint NOT NULL,
    key bytea,
    replay bytea,
    letter bytea,
    attempts bytea NOT NULL,
    event bytea NOT NULL,
    data bytea NOT NULL
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 1,
    autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 5000
);
ALTER TABLE crossdock.held ALTER COLUMN data SET STORAGE EXTERNAL;
-- A delivery is held once, and the flows that hold an event are found by their places. A topic that was made anew counts its
-- offsets from 0 again, so the event belongs to it.
CREATE UNIQUE INDEX held_delivery ON crossdock.held (place, log_offset, event_hash);
-- Due heads of a place, earliest first. Events behind a head have no due time and cost no entry.
CREATE INDEX held_due ON crossdock.held (place, due, id) WHERE due IS NOT NULL;
-- The events of a key in order, and the held keys of a place without touching the rows.
CREATE INDEX held_key ON crossdock.held (place, key_hash, id);

-- Where an event stands in the broker, by its id.
CREATE INDEX held_event ON crossdock.held (event_hash);

-- How many events each place holds: the sum of its rows. Whoever adds or removes some writes a row of its own, so that nobody
-- waits for anybody; `maintain` adds them up, and there are never many.
CREATE TABLE crossdock.held_counts (
    place integer NOT NULL,
    events bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- One row a fingerprint, with a counter for each state, kept by the transaction that changes a letter. No counter is
-- indexed and half of each page is free, so that counting leaves the indexes alone.
CREATE TABLE crossdock.failure_groups (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    flow text NOT NULL,
    connection text NOT NULL,
    step bytea NOT NULL,
    action bytea NOT NULL,
    class text NOT NULL,
    status integer,
    code bytea,
    message bytea NOT NULL,
    advice bytea,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    open bigint NOT NULL DEFAULT 0,
    replaying bigint NOT NULL DEFAULT 0,
    replayed bigint NOT NULL DEFAULT 0,
    discarded bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What lists and selections need. The payload stands apart, so that a change of state rewrites a small row.
CREATE TABLE crossdock.letters (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failure_group bigint NOT NULL,
    log_offset bigint NOT NULL,
    event_hash bigint NOT NULL, -- as in `held`
    failed_at timestamptz NOT NULL,
    settled_at timestamptz, -- when it was replayed or discarded; none while it is open or replaying
    place integer NOT NULL,
    state smallint NOT NULL, -- 0 open, 1 replaying, 2 replayed, 3 discarded
    replays bigint NOT NULL,
    tries bigint NOT NULL,
    id bytea NOT NULL,
    event_id bytea NOT NULL,
    kind bytea NOT NULL,
    key bytea,
    message bytea NOT NULL
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05
);
CREATE UNIQUE INDEX letters_id ON crossdock.letters (id);
-- A delivery has one dead letter, and the letters of an event are found by their places; the event belongs to it as in `held`.
CREATE UNIQUE INDEX letters_delivery ON crossdock.letters (place, log_offset, event_hash);
CREATE INDEX letters_event ON crossdock.letters (event_hash);
-- The newest letters of a state over all groups, and of one group.
CREATE INDEX letters_state ON crossdock.letters (state, failed_at, number);
CREATE INDEX letters_group ON crossdock.letters (failure_group, state, failed_at, number);
-- Settled letters by age, for retention.
CREATE INDEX letters_settled ON crossdock.letters (settled_at) WHERE settled_at IS NOT NULL;

CREATE TABLE crossdock.letter_bodies (
    number bigint PRIMARY KEY,
    reason bytea NOT NULL,
    advice bytea,
    idempotency_key bytea NOT NULL,
    attempts bytea NOT NULL,
    request bytea,
    request_body bytea,
    event bytea NOT NULL,
    data bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

CREATE TABLE crossdock.replays (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    state text NOT NULL,
    selection bytea NOT NULL,
    rate double precision,
    actor bytea NOT NULL,
    reason bytea NOT NULL,
    total bigint NOT NULL,
    delivered bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    items_kept boolean NOT NULL DEFAULT true, -- false once retention has dropped its items
    test boolean NOT NULL DEFAULT false, -- of one dead letter
    tried bytea -- what a test came to, as JSON
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- Those that a start must take up again: few, whatever the history.
CREATE INDEX replays_unfinished ON crossdock.replays (number) WHERE state IN ('running', 'paused');
-- Ended ones by age, for retention.
CREATE INDEX replays_ended ON crossdock.replays (finished_at) WHERE items_kept AND finished_at IS NOT NULL;

CREATE TABLE crossdock.replay_items (
    replay bigint NOT NULL,
    item bigint NOT NULL,
    letter bigint NOT NULL,
    place integer NOT NULL,
    state smallint NOT NULL, -- 0 pending, 1 held, 2 delivered, 3 failed, 4 skipped
    PRIMARY KEY (replay, item)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
-- What is left to be sent of a replay, by place, in order.
CREATE INDEX replay_items_pending ON crossdock.replay_items (replay, place, item) WHERE state = 0;

-- What may be sent at the rate of a replay: a token bucket. Unlogged, so that asking waits for no disk; what is lost with the
-- server's memory is a tenth of a second.
CREATE UNLOGGED TABLE crossdock.replay_rates (
    replay bigint PRIMARY KEY,
    rate double precision NOT NULL,
    tokens double precision NOT NULL,
    allowed bigint NOT NULL, -- by the last question
    filled_at timestamptz NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE crossdock.connections (
    name text COLLATE "C" PRIMARY KEY,
    state text NOT NULL,
    detail bytea,
    since timestamptz NOT NULL
);

CREATE TABLE crossdock.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    actor bytea NOT NULL,
    reason bytea NOT NULL,
    act text NOT NULL,
    subject bytea NOT NULL,
    count bigint NOT NULL
);

-- Leases; one that nobody holds stays for its epoch.
CREATE TABLE crossdock.leases (
    scope text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    holder text COLLATE "C",
    epoch bigint NOT NULL,
    held_until timestamptz NOT NULL,
    PRIMARY KEY (scope, name)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE crossdock.lease_workers (
    scope text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    alive_until timestamptz NOT NULL,
    PRIMARY KEY (scope, worker)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE crossdock.checkpoints (
    consumer_group text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic)
);

COMMENT ON TABLE crossdock.places IS 'Partitions in flows, with their owners'' epochs';
COMMENT ON TABLE crossdock.held IS 'Deliveries that left the broker and wait: retries, and what queues behind them';
COMMENT ON TABLE crossdock.failure_groups IS 'Dead letters with one cause, counted by state';
COMMENT ON TABLE crossdock.letters IS 'Dead letters, without what may be large';
COMMENT ON TABLE crossdock.letter_bodies IS 'Dead letters: payload, request and attempts';
COMMENT ON TABLE crossdock.replays IS 'Jobs that send dead letters again';
COMMENT ON TABLE crossdock.replay_items IS 'The frozen set of each replay';
COMMENT ON TABLE crossdock.replay_rates IS 'How much may be sent at the rate of a replay';
COMMENT ON TABLE crossdock.connections IS 'States of connections that outlive a restart';
COMMENT ON TABLE crossdock.audit IS 'What people did, who and why';
COMMENT ON TABLE crossdock.leases IS 'What only one worker may do at a time, and who does it';
COMMENT ON TABLE crossdock.lease_workers IS 'Which workers are alive';
COMMENT ON TABLE crossdock.checkpoints IS 'Which groups have begun to read which topics';
