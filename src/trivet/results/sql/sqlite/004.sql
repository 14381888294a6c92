-- Layout 4: manifests by version, hourly profiles, true values, what they tell of the quality, alerts.

CREATE TABLE trivet_manifests (
    deployment    TEXT NOT NULL,
    model_version TEXT NOT NULL,
    model_digest  TEXT NOT NULL,
    manifest      TEXT NOT NULL,            -- JSON: as in trivet_deployments, of this version
    registered_at TEXT NOT NULL,            -- first
    PRIMARY KEY (deployment, model_version, model_digest)
) WITHOUT ROWID;

INSERT INTO trivet_manifests (deployment, model_version, model_digest, manifest, registered_at)
SELECT name, coalesce(json_extract(manifest, '$.version'), ''),
    coalesce(json_extract(manifest, '$.digest'), ''), manifest, registered_at
FROM trivet_deployments;

CREATE TABLE trivet_hourly_profiles (
    deployment  TEXT NOT NULL,
    hour        TEXT NOT NULL,              -- its start
    lineage     INTEGER NOT NULL,           -- the model's version, in trivet_lineages
    side        TEXT NOT NULL,              -- input or output
    column_name TEXT NOT NULL,
    row_count   INTEGER NOT NULL,
    null_count  INTEGER NOT NULL,
    counts      TEXT NOT NULL,              -- JSON list: rows by bin of the manifest's reference
    total       REAL,
    low         REAL,
    high        REAL,
    PRIMARY KEY (deployment, hour, lineage, side, column_name)
) WITHOUT ROWID;

CREATE TABLE trivet_actuals (
    deployment     TEXT NOT NULL,
    row_key        TEXT NOT NULL,           -- the key as text
    interval_start TEXT NOT NULL,           -- 1970-01-01: of the key in whatever interval
    number         REAL,
    label          TEXT,                    -- the class, also of whole numbers
    pulled_at      TEXT NOT NULL,
    PRIMARY KEY (deployment, interval_start, row_key)
) WITHOUT ROWID;

CREATE TABLE trivet_pulls (
    deployment     TEXT NOT NULL,
    interval_start TEXT NOT NULL,           -- what the query was bound to
    interval_end   TEXT NOT NULL,
    pulled_at      TEXT NOT NULL,
    row_count      INTEGER NOT NULL,        -- rows that the query gave
    unusable_count INTEGER NOT NULL,        -- of them, rows without a key or a value
    PRIMARY KEY (deployment, interval_start)
) WITHOUT ROWID;

CREATE TABLE trivet_measured (
    deployment   TEXT NOT NULL,
    period_start TEXT NOT NULL,             -- of an interval or an hour
    attempt      INTEGER NOT NULL,          -- whose predictions were measured; 0 for an hour
    measured_at  TEXT NOT NULL,
    PRIMARY KEY (deployment, period_start)
) WITHOUT ROWID;

CREATE TABLE trivet_quality (
    deployment      TEXT NOT NULL,
    period_start    TEXT NOT NULL,
    period_end      TEXT NOT NULL,
    model_version   TEXT NOT NULL,
    segment         TEXT NOT NULL,          -- a kept column; empty: all rows
    value           TEXT NOT NULL,          -- its value
    kind            TEXT NOT NULL,          -- regression, binary or classes
    positive        TEXT NOT NULL,          -- binary: the positive class
    threshold       REAL,                   -- binary: scores from here on are positive
    row_count       INTEGER NOT NULL,
    error_sum       REAL NOT NULL,
    absolute_sum    REAL NOT NULL,
    squared_sum     REAL NOT NULL,
    actual_sum      REAL NOT NULL,
    right_count     INTEGER NOT NULL,
    positive_count  INTEGER NOT NULL,
    true_positives  INTEGER NOT NULL,
    false_positives INTEGER NOT NULL,
    log_loss_sum    REAL NOT NULL,
    brier_sum       REAL NOT NULL,
    scores          TEXT NOT NULL,          -- JSON list: bin, rows, positives, sum of the scores
    PRIMARY KEY (deployment, period_start, model_version, segment, value)
) WITHOUT ROWID;
CREATE INDEX trivet_quality_by_segment ON trivet_quality (deployment, segment, period_start);

CREATE TABLE trivet_alerts (
    alert         INTEGER PRIMARY KEY AUTOINCREMENT,
    deployment    TEXT NOT NULL,
    kind          TEXT NOT NULL,
    subject       TEXT NOT NULL,            -- such as the metric
    message       TEXT NOT NULL,
    value         REAL,
    threshold     REAL,
    raised_at     TEXT NOT NULL,
    resolved_at   TEXT,                     -- null while it goes on
    sent_at       TEXT,
    resolution_sent_at TEXT,
    claimed_until REAL NOT NULL DEFAULT 0,  -- seconds since 1970: until when a process is sending it
    failures      INTEGER NOT NULL DEFAULT 0,
    error         TEXT                      -- why it could not be sent
);
CREATE UNIQUE INDEX trivet_alerts_one_open ON trivet_alerts (deployment, kind, subject)
    WHERE resolved_at IS NULL;
