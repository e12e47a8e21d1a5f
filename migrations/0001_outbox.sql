-- The outbox: what applications write, what reads it, and what it takes in.

-- Columns id, aggregatetype, aggregateid, type and payload are those of Debezium's outbox event router.
CREATE TABLE crossdock.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    aggregatetype text NOT NULL,
    aggregateid text,
    type text NOT NULL,
    payload bytea,
    contenttype text,
    source text,
    subject text,
    headers jsonb,
    tracingspancontext text,
    attributes bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seq),
    -- Far above what brokers take; it bounds what the relay has to hold in memory.
    CONSTRAINT payload_of_at_most_64_mib CHECK (octet_length(payload) <= 67108864)
) PARTITION BY RANGE (seq);

COMMENT ON TABLE crossdock.outbox IS 'Events on their way to the broker: INSERT in the transaction that causes them, never UPDATE or DELETE';
COMMENT ON COLUMN crossdock.outbox.seq IS 'The order in which the relay reads';
COMMENT ON COLUMN crossdock.outbox.id IS 'CloudEvents id';
COMMENT ON COLUMN crossdock.outbox.aggregatetype IS 'The topic';
COMMENT ON COLUMN crossdock.outbox.aggregateid IS 'The key by which order is kept; without one there is no order. Lock what it names before inserting';
COMMENT ON COLUMN crossdock.outbox.type IS 'CloudEvents type';
COMMENT ON COLUMN crossdock.outbox.payload IS 'The data, untouched';
COMMENT ON COLUMN crossdock.outbox.contenttype IS 'CloudEvents datacontenttype; application/json if null';
COMMENT ON COLUMN crossdock.outbox.source IS 'CloudEvents source; that of the configuration if null';
COMMENT ON COLUMN crossdock.outbox.subject IS 'CloudEvents subject';
COMMENT ON COLUMN crossdock.outbox.headers IS 'Other CloudEvents attributes, an object of texts';
COMMENT ON COLUMN crossdock.outbox.tracingspancontext IS 'W3C traceparent, alone or as the line "traceparent=..." that Debezium reads';
COMMENT ON COLUMN crossdock.outbox.attributes IS 'The attributes of an event that came in from outside, as JSON; then those above only help to find it';

-- Beyond the last partition of the relay's making rows come here: no insert ever fails for want of one.
CREATE TABLE crossdock.outbox_default PARTITION OF crossdock.outbox DEFAULT;
CREATE TABLE crossdock.outbox_1 PARTITION OF crossdock.outbox FOR VALUES FROM (1) TO (1000001);
CREATE TABLE crossdock.outbox_1000001 PARTITION OF crossdock.outbox FOR VALUES FROM (1000001) TO (2000001);
CREATE TABLE crossdock.outbox_2000001 PARTITION OF crossdock.outbox FOR VALUES FROM (2000001) TO (3000001);
CREATE TABLE crossdock.outbox_3000001 PARTITION OF crossdock.outbox FOR VALUES FROM (3000001) TO (4000001);

-- How far the relay has come, and who it is. One row.
CREATE TABLE crossdock.outbox_cursor (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    position bigint NOT NULL DEFAULT 0,
    gaps int8multirange NOT NULL DEFAULT '{}',
    anchor_seq bigint,
    anchor_id uuid,
    epoch bigint NOT NULL DEFAULT 0,
    holder text,
    held_until timestamptz,
    advanced_at timestamptz
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
INSERT INTO crossdock.outbox_cursor DEFAULT VALUES;

COMMENT ON TABLE crossdock.outbox_cursor IS 'The relay: everything up to position is in the broker, except gaps';
COMMENT ON COLUMN crossdock.outbox_cursor.gaps IS 'Numbers that were missing when others behind them came, and may still be committed';
COMMENT ON COLUMN crossdock.outbox_cursor.anchor_seq IS 'A row that was read, and its id: if it is another one by now, the database was set back';
COMMENT ON COLUMN crossdock.outbox_cursor.epoch IS 'Counts the readers; who writes with an earlier one is refused';

-- Rows that the broker will never take, kept until somebody deals with them.
CREATE TABLE crossdock.outbox_refused (
    seq bigint PRIMARY KEY,
    reason text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now(),
    id uuid,
    aggregatetype text,
    aggregateid text,
    type text,
    payload bytea,
    contenttype text,
    source text,
    subject text,
    headers jsonb,
    tracingspancontext text,
    attributes bytea,
    created_at timestamptz,
    settled_as text CHECK (settled_as IN ('retried', 'discarded')),
    settled_at timestamptz,
    settled_by text,
    settled_why text
);
CREATE INDEX outbox_refused_open ON crossdock.outbox_refused (seq) WHERE settled_at IS NULL;

-- The ids of events that came in from outside, for as long as a second one is recognised. The hash is of topic, source and id.
CREATE TABLE crossdock.seen (
    hash uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX seen_at ON crossdock.seen (seen_at);

-- For applications that would rather call than insert, with text, jsonb or bytea. Gives the id of the event.
CREATE FUNCTION crossdock.publish(
    topic text, key text, type text, payload bytea,
    content_type text DEFAULT NULL, source text DEFAULT NULL, subject text DEFAULT NULL,
    headers jsonb DEFAULT NULL, id uuid DEFAULT gen_random_uuid()
) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    INSERT INTO crossdock.outbox (id, aggregatetype, aggregateid, type, payload, contenttype, source, subject, headers)
    VALUES (publish.id, publish.topic, publish.key, publish.type, publish.payload,
        publish.content_type, publish.source, publish.subject, publish.headers)
    RETURNING outbox.id
$$;
CREATE FUNCTION crossdock.publish(
    topic text, key text, type text, payload text,
    content_type text DEFAULT NULL, source text DEFAULT NULL, subject text DEFAULT NULL,
    headers jsonb DEFAULT NULL, id uuid DEFAULT gen_random_uuid()
) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT crossdock.publish(publish.topic, publish.key, publish.type, convert_to(publish.payload, 'UTF8'),
        publish.content_type, publish.source, publish.subject, publish.headers, publish.id)
$$;
CREATE FUNCTION crossdock.publish(
    topic text, key text, type text, payload jsonb,
    content_type text DEFAULT NULL, source text DEFAULT NULL, subject text DEFAULT NULL,
    headers jsonb DEFAULT NULL, id uuid DEFAULT gen_random_uuid()
) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT crossdock.publish(publish.topic, publish.key, publish.type, convert_to(publish.payload::text, 'UTF8'),
        publish.content_type, publish.source, publish.subject, publish.headers, publish.id)
$$;
