-- Layout 2: predictions that come row by row, from a service or a stream.

CREATE TABLE trivet_lineages (
    lineage       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment    TEXT NOT NULL,
    model_name    TEXT NOT NULL,
    model_version TEXT NOT NULL,
    model_digest  TEXT NOT NULL,
    first_used_at TIMESTAMPTZ NOT NULL,
    UNIQUE (deployment, model_version, model_digest)
);

ALTER TABLE trivet_rejects ADD COLUMN id TEXT;          -- of the row, where it came alone; attempt is 0
ALTER TABLE trivet_rejects ADD COLUMN rejected_at TIMESTAMPTZ;
