-- Layout 1: deployments, their runs, what is published, rejects and profiles.

CREATE TABLE trivet_deployments (
    name          TEXT PRIMARY KEY,
    kind          TEXT NOT NULL,            -- batch, service or stream
    model         TEXT NOT NULL,            -- name in the project file
    schedule      TEXT,
    timezone      TEXT,
    start_at      TIMESTAMPTZ,
    delay_seconds DOUBLE PRECISION,
    view_name     TEXT NOT NULL,            -- what to read: published predictions
    key_columns   TEXT NOT NULL,            -- JSON list
    keep_columns  TEXT NOT NULL,            -- JSON list
    manifest      TEXT NOT NULL,            -- JSON: version, digest, schemas, metrics, reference bins
    registered_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE trivet_runs (
    attempt        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment     TEXT NOT NULL,
    interval_start TIMESTAMPTZ NOT NULL,
    interval_end   TIMESTAMPTZ NOT NULL,
    number         BIGINT NOT NULL,        -- first attempt at this interval, second, ...
    state          TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'killed', 'stopped')),
    cause          TEXT NOT NULL,           -- manual, schedule or backfill
    owner          TEXT NOT NULL,           -- the process that runs it
    lease_until    DOUBLE PRECISION NOT NULL,           -- seconds since 1970 by the database's clock
    model_name     TEXT NOT NULL,
    model_version  TEXT NOT NULL,
    model_digest   TEXT NOT NULL,
    started_at     TIMESTAMPTZ NOT NULL,
    ended_at       TIMESTAMPTZ,
    rows_read      BIGINT NOT NULL DEFAULT 0,
    rows_scored    BIGINT NOT NULL DEFAULT 0,
    rows_rejected  BIGINT NOT NULL DEFAULT 0,
    seconds        TEXT NOT NULL DEFAULT '{}', -- JSON: seconds by stage
    warning        TEXT,
    error          TEXT,
    has_predictions BOOLEAN NOT NULL DEFAULT true, -- false once its rows were swept
    has_rejects    BOOLEAN NOT NULL DEFAULT true
);
CREATE UNIQUE INDEX trivet_runs_one_running ON trivet_runs (deployment, interval_start)
    WHERE state = 'running';
CREATE INDEX trivet_runs_by_interval ON trivet_runs (deployment, interval_start, attempt);

CREATE TABLE trivet_published (
    deployment     TEXT NOT NULL,
    interval_start TIMESTAMPTZ NOT NULL,
    interval_end   TIMESTAMPTZ NOT NULL,
    attempt        BIGINT NOT NULL UNIQUE,
    PRIMARY KEY (deployment, interval_start)
);

CREATE TABLE trivet_rejects (
    deployment TEXT NOT NULL,
    attempt    BIGINT NOT NULL,
    row_key    TEXT NOT NULL,               -- JSON object of the key columns
    field      TEXT NOT NULL,               -- empty: the row as a whole
    code       TEXT NOT NULL,
    reason     TEXT NOT NULL
);
CREATE INDEX trivet_rejects_by_attempt ON trivet_rejects (attempt);

CREATE TABLE trivet_profiles (
    deployment  TEXT NOT NULL,
    attempt     BIGINT NOT NULL,
    side        TEXT NOT NULL,              -- input or output
    column_name TEXT NOT NULL,
    row_count   BIGINT NOT NULL,
    null_count  BIGINT NOT NULL,
    counts      TEXT NOT NULL,              -- JSON list: rows by bin of the manifest's reference
    total       DOUBLE PRECISION,
    low         DOUBLE PRECISION,
    high        DOUBLE PRECISION,
    PRIMARY KEY (attempt, side, column_name)
);
