-- Numbers stand for names everywhere else, which keeps indexes small.
-- `partitions` also holds places of foreign brokers, as soon as one is stored.
CREATE TABLE topics (
    name TEXT PRIMARY KEY,
    partitions INTEGER NOT NULL -- fixed at birth: another number would send a key elsewhere
) STRICT, WITHOUT ROWID;

CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    trimmed_to INTEGER NOT NULL DEFAULT 0, -- offsets below are gone; the next one is never below it
    merged_to INTEGER NOT NULL DEFAULT 0,  -- ids of offsets below are in `seen`
    UNIQUE (topic, number)
) STRICT;

CREATE TABLE flows (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The log. One row is a pack of events with consecutive offsets, as they were committed together. `place` is the
-- partition's id in the upper bits and the first offset in the lower 46, so each partition is a range that grows at
-- its right edge. `ids` stands before `events`, so that reading it leaves the payloads on their overflow pages.
CREATE TABLE log (
    place INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL, -- nanoseconds since 1970, like every time here
    ids BLOB NOT NULL,            -- 24 bytes an event: hash of the id, hash of topic, source and id
    events BLOB NOT NULL
) STRICT;
-- Lists run from the newest to the oldest over all partitions. Grows at its right edge, one entry a pack.
CREATE INDEX log_accepted ON log (accepted_at);

-- How far each group has come: `Completed::encode`.
CREATE TABLE positions (
    flow INTEGER NOT NULL,
    part INTEGER NOT NULL,
    completed BLOB NOT NULL,
    PRIMARY KEY (flow, part)
) STRICT, WITHOUT ROWID;

-- Ids that were seen, in sorted runs that are written once and dropped whole. A run is cut into 1,024 buckets by the
-- upper bits of the id's hash; `place` of a bucket is the run's number in the upper bits and the bucket's in the lower 10.
CREATE TABLE seen_runs (
    run INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    newest_at INTEGER NOT NULL,
    filter BLOB NOT NULL -- a Bloom filter over the entries
) STRICT;
CREATE TABLE seen (
    place INTEGER PRIMARY KEY,
    entries BLOB NOT NULL -- 32 bytes each, sorted: the 24 of `log.ids`, the place
) STRICT;

-- Ids of held events and numbers of letters are never used twice: a settlement that is repeated must not meet another row.
CREATE TABLE held (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flow INTEGER NOT NULL,
    place INTEGER NOT NULL,
    part INTEGER NOT NULL,
    key_hash INTEGER NOT NULL,
    due INTEGER,
    tried INTEGER NOT NULL,
    first_tried_at INTEGER,
    key TEXT,
    replay TEXT,
    item INTEGER,
    letter TEXT,
    attempts TEXT NOT NULL,
    event BLOB NOT NULL
) STRICT;
-- A delivery is held once; and all flows that hold an event are found by its place.
CREATE UNIQUE INDEX held_place ON held (place, flow);
-- Due heads of a partition, earliest first. Events behind a head have no due time and cost no entry.
CREATE INDEX held_due ON held (flow, part, due) WHERE due IS NOT NULL;
-- The events of a key in order (the row id ends every entry), and the held keys without touching the rows.
CREATE INDEX held_key ON held (flow, part, key_hash);

-- One row a fingerprint, with a counter for each state, kept by the statement that changes a letter.
CREATE TABLE failure_groups (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    flow INTEGER NOT NULL,
    connection TEXT NOT NULL,
    step TEXT NOT NULL,
    action TEXT NOT NULL,
    class TEXT NOT NULL,
    status INTEGER,
    code TEXT,
    message TEXT NOT NULL,
    advice TEXT,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    open INTEGER NOT NULL DEFAULT 0,
    replaying INTEGER NOT NULL DEFAULT 0,
    replayed INTEGER NOT NULL DEFAULT 0,
    discarded INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What lists and selections need. The payload stands apart, so that a change of state rewrites a small row.
CREATE TABLE letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    state INTEGER NOT NULL, -- 0 open, 1 replaying, 2 replayed, 3 discarded
    failure_group INTEGER NOT NULL,
    place INTEGER NOT NULL,
    flow INTEGER NOT NULL,
    failed_at INTEGER NOT NULL,
    settled_at INTEGER, -- when it was replayed or discarded; none while it is open or replaying
    replays INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    message TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX letters_id ON letters (id);
-- A delivery has one dead letter; and the letters of an event over all flows are found by its place.
CREATE UNIQUE INDEX letters_place ON letters (place, flow);
CREATE INDEX letters_event ON letters (event_id);
-- The newest letters of a state over all groups, and of one group.
CREATE INDEX letters_state ON letters (state, failed_at);
CREATE INDEX letters_group ON letters (failure_group, state, failed_at);
-- Settled letters by age, for retention.
CREATE INDEX letters_settled ON letters (settled_at) WHERE settled_at IS NOT NULL;

CREATE TABLE letter_bodies (
    number INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    advice TEXT,
    idempotency_key TEXT NOT NULL,
    attempts TEXT NOT NULL,
    request TEXT,
    request_body BLOB,
    event BLOB NOT NULL
) STRICT;

CREATE TABLE replays (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    selection TEXT NOT NULL,
    rate REAL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    total INTEGER NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
-- Those that a start must take up again: few, whatever the history.
CREATE INDEX replays_unfinished ON replays (state) WHERE state IN ('running', 'paused');

CREATE TABLE replay_items (
    replay INTEGER NOT NULL,
    item INTEGER NOT NULL,
    letter INTEGER NOT NULL,
    state INTEGER NOT NULL, -- 0 pending, 1 held, 2 delivered, 3 failed, 4 skipped
    PRIMARY KEY (replay, item)
) STRICT, WITHOUT ROWID;

CREATE TABLE connections (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    detail TEXT,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    act TEXT NOT NULL,
    subject TEXT NOT NULL,
    count INTEGER NOT NULL
) STRICT;

-- The letters that an act under way is about; empty between transactions.
CREATE TABLE chosen (
    entry INTEGER NOT NULL,
    letter INTEGER NOT NULL,
    PRIMARY KEY (entry, letter)
) STRICT, WITHOUT ROWID;
