-- Layout 4: manifests by version, hourly profiles, true values, what they tell of the quality, alerts.

CREATE TABLE trivet_manifests (
    deployment    TEXT NOT NULL,
    model_version TEXT NOT NULL,
    model_digest  TEXT NOT NULL,
    manifest      TEXT NOT NULL,            -- JSON: as in trivet_deployments, of this version
    registered_at TIMESTAMPTZ NOT NULL,            -- first
    PRIMARY KEY (deployment, model_version, model_digest)
);

INSERT INTO trivet_manifests (deployment, model_version, model_digest, manifest, registered_at)
SELECT name, coalesce(CAST(manifest AS json) ->> 'version', ''),
    coalesce(CAST(manifest AS json) ->> 'digest', ''), manifest, registered_at
FROM trivet_deployments;

CREATE TABLE trivet_hourly_profiles (
    deployment  TEXT NOT NULL,
    hour        TIMESTAMPTZ NOT NULL,              -- its start
    lineage     BIGINT NOT NULL,           -- the model's version, in trivet_lineages
    side        TEXT NOT NULL,              -- input or output
    column_name TEXT NOT NULL,
    row_count   BIGINT NOT NULL,
    null_count  BIGINT NOT NULL,
    counts      TEXT NOT NULL,              -- JSON list: rows by bin of the manifest's reference
    total       DOUBLE PRECISION,
    low         DOUBLE PRECISION,
    high        DOUBLE PRECISION,
    PRIMARY KEY (deployment, hour, lineage, side, column_name)
);

CREATE TABLE trivet_actuals (
    deployment     TEXT NOT NULL,
    row_key        TEXT NOT NULL,           -- the key as text
    interval_start TIMESTAMPTZ NOT NULL,           -- 1970-01-01: of the key in whatever interval
    number         DOUBLE PRECISION,
    label          TEXT,                    -- the class, also of whole numbers
    pulled_at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (deployment, interval_start, row_key)
);

CREATE TABLE trivet_pulls (
    deployment     TEXT NOT NULL,
    interval_start TIMESTAMPTZ NOT NULL,           -- what the query was bound to
    interval_end   TIMESTAMPTZ NOT NULL,
    pulled_at      TIMESTAMPTZ NOT NULL,
    row_count      BIGINT NOT NULL,        -- rows that the query gave
    unusable_count BIGINT NOT NULL,        -- of them, rows without a key or a value
    PRIMARY KEY (deployment, interval_start)
);

CREATE TABLE trivet_measured (
    deployment   TEXT NOT NULL,
    period_start TIMESTAMPTZ NOT NULL,             -- of an interval or an hour
    attempt      BIGINT NOT NULL,          -- whose predictions were measured; 0 for an hour
    measured_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (deployment, period_start)
);

CREATE TABLE trivet_quality (
    deployment      TEXT NOT NULL,
    period_start    TIMESTAMPTZ NOT NULL,
    period_end      TIMESTAMPTZ NOT NULL,
    model_version   TEXT NOT NULL,
    segment         TEXT NOT NULL,          -- a kept column; empty: all rows
    value           TEXT NOT NULL,          -- its value
    kind            TEXT NOT NULL,          -- regression, binary or classes
    positive        TEXT NOT NULL,          -- binary: the positive class
    threshold       DOUBLE PRECISION,                   -- binary: scores from here on are positive
    row_count       BIGINT NOT NULL,
    error_sum       DOUBLE PRECISION NOT NULL,
    absolute_sum    DOUBLE PRECISION NOT NULL,
    squared_sum     DOUBLE PRECISION NOT NULL,
    actual_sum      DOUBLE PRECISION NOT NULL,
    right_count     BIGINT NOT NULL,
    positive_count  BIGINT NOT NULL,
    true_positives  BIGINT NOT NULL,
    false_positives BIGINT NOT NULL,
    log_loss_sum    DOUBLE PRECISION NOT NULL,
    brier_sum       DOUBLE PRECISION NOT NULL,
    scores          TEXT NOT NULL,          -- JSON list: bin, rows, positives, sum of the scores
    PRIMARY KEY (deployment, period_start, model_version, segment, value)
);
CREATE INDEX trivet_quality_by_segment ON trivet_quality (deployment, segment, period_start);

CREATE TABLE trivet_alerts (
    alert         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment    TEXT NOT NULL,
    kind          TEXT NOT NULL,
    subject       TEXT NOT NULL,            -- such as the metric
    message       TEXT NOT NULL,
    value         DOUBLE PRECISION,
    threshold     DOUBLE PRECISION,
    raised_at     TIMESTAMPTZ NOT NULL,
    resolved_at   TIMESTAMPTZ,                     -- null while it goes on
    sent_at       TIMESTAMPTZ,
    resolution_sent_at TIMESTAMPTZ,
    claimed_until DOUBLE PRECISION NOT NULL DEFAULT 0,  -- seconds since 1970: until when a process is sending it
    failures      BIGINT NOT NULL DEFAULT 0,
    error         TEXT                      -- why it could not be sent
);
CREATE UNIQUE INDEX trivet_alerts_one_open ON trivet_alerts (deployment, kind, subject)
    WHERE resolved_at IS NULL;
