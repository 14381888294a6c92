-- Layout 3: streams: how far each has come, and the events that it could not score.

CREATE TABLE trivet_offsets (
    deployment       TEXT NOT NULL,
    topic            TEXT NOT NULL,
    partition_number INTEGER NOT NULL,
    next_offset      BIGINT NOT NULL,      -- of the first event that is not in the results yet
    moved_at         TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (deployment, topic, partition_number)
);

CREATE TABLE trivet_dead_letters (
    deployment       TEXT NOT NULL,
    topic            TEXT NOT NULL,
    partition_number INTEGER NOT NULL,
    event_offset     BIGINT NOT NULL,
    id               TEXT NOT NULL,
    source           TEXT NOT NULL,
    event_key        BYTEA,
    event_value      BYTEA,                  -- null where it is too long: read it from the topic
    event_bytes      BIGINT NOT NULL,
    event_headers    TEXT NOT NULL,         -- JSON list of names and values in base64
    rejected_at      TIMESTAMPTZ NOT NULL,
    replayed_at      TIMESTAMPTZ,
    PRIMARY KEY (deployment, topic, partition_number, event_offset)
);

ALTER TABLE trivet_rejects ADD COLUMN topic TEXT;             -- of a stream's event
ALTER TABLE trivet_rejects ADD COLUMN partition_number INTEGER;
ALTER TABLE trivet_rejects ADD COLUMN event_offset BIGINT;
CREATE INDEX trivet_rejects_by_event
    ON trivet_rejects (deployment, topic, partition_number, event_offset)
    WHERE topic IS NOT NULL;
