-- Layout 1: deployments, their runs, what is published, rejects and profiles.

CREATE TABLE trivet_deployments (
    name          TEXT PRIMARY KEY,
    kind          TEXT NOT NULL,            -- batch, service or stream
    model         TEXT NOT NULL,            -- name in the project file
    schedule      TEXT,
    timezone      TEXT,
    start_at      TEXT,
    delay_seconds REAL,
    view_name     TEXT NOT NULL,            -- what to read: published predictions
    key_columns   TEXT NOT NULL,            -- JSON list
    keep_columns  TEXT NOT NULL,            -- JSON list
    manifest      TEXT NOT NULL,            -- JSON: version, digest, schemas, metrics, reference bins
    registered_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE trivet_runs (
    attempt        INTEGER PRIMARY KEY AUTOINCREMENT,
    deployment     TEXT NOT NULL,
    interval_start TEXT NOT NULL,
    interval_end   TEXT NOT NULL,
    number         INTEGER NOT NULL,        -- first attempt at this interval, second, ...
    state          TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'killed', 'stopped')),
    cause          TEXT NOT NULL,           -- manual, schedule or backfill
    owner          TEXT NOT NULL,           -- the process that runs it
    lease_until    REAL NOT NULL,           -- seconds since 1970 by the database's clock
    model_name     TEXT NOT NULL,
    model_version  TEXT NOT NULL,
    model_digest   TEXT NOT NULL,
    started_at     TEXT NOT NULL,
    ended_at       TEXT,
    rows_read      INTEGER NOT NULL DEFAULT 0,
    rows_scored    INTEGER NOT NULL DEFAULT 0,
    rows_rejected  INTEGER NOT NULL DEFAULT 0,
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
    interval_start TEXT NOT NULL,
    interval_end   TEXT NOT NULL,
    attempt        INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (deployment, interval_start)
) WITHOUT ROWID;

CREATE TABLE trivet_rejects (
    deployment TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    row_key    TEXT NOT NULL,               -- JSON object of the key columns
    field      TEXT NOT NULL,               -- empty: the row as a whole
    code       TEXT NOT NULL,
    reason     TEXT NOT NULL
);
CREATE INDEX trivet_rejects_by_attempt ON trivet_rejects (attempt);

CREATE TABLE trivet_profiles (
    deployment  TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    side        TEXT NOT NULL,              -- input or output
    column_name TEXT NOT NULL,
    row_count   INTEGER NOT NULL,
    null_count  INTEGER NOT NULL,
    counts      TEXT NOT NULL,              -- JSON list: rows by bin of the manifest's reference
    total       REAL,
    low         REAL,
    high        REAL,
    PRIMARY KEY (attempt, side, column_name)
) WITHOUT ROWID;
