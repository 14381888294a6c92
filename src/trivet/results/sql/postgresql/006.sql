-- Layout 6: who consumes a stream, and how far behind it is.

CREATE TABLE trivet_consumers (
    deployment       TEXT NOT NULL,
    topic            TEXT NOT NULL,
    partition_number INTEGER NOT NULL,
    waiting          BIGINT NOT NULL,      -- events of the topic that are not scored yet
    moved_at         TIMESTAMPTZ NOT NULL,         -- when the last step was made, or the partition came
    seen_at          TIMESTAMPTZ NOT NULL,         -- when its consumer looked
    PRIMARY KEY (deployment, topic, partition_number)
);
