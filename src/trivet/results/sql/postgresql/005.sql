-- Layout 5: actions on predictions, who was chosen for them, and their deliveries.

CREATE TABLE trivet_actions (
    name          TEXT PRIMARY KEY,
    deployment    TEXT NOT NULL,            -- the batch deployment that is acted on
    channel       TEXT NOT NULL,            -- smtp, webhook, topic or file
    key_columns   TEXT NOT NULL,            -- JSON list
    max_treated   BIGINT,
    cooldown_seconds DOUBLE PRECISION NOT NULL,
    control       DOUBLE PRECISION NOT NULL,
    registered_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE trivet_action_runs (
    action         TEXT NOT NULL,
    interval_start TIMESTAMPTZ NOT NULL,
    interval_end   TIMESTAMPTZ NOT NULL,
    attempt        BIGINT NOT NULL,        -- whose predictions were looked at
    cause          TEXT NOT NULL,           -- manual or schedule
    decided_at     TIMESTAMPTZ NOT NULL,
    approved_at    TIMESTAMPTZ,                    -- with review: when somebody did
    PRIMARY KEY (action, interval_start)
);

CREATE TABLE trivet_assignments (
    action         TEXT NOT NULL,
    interval_start TIMESTAMPTZ NOT NULL,
    row_key        TEXT NOT NULL,           -- JSON object of the key columns
    place          BIGINT NOT NULL,        -- among the candidates, the best is 0
    assignment     TEXT NOT NULL
        CHECK (assignment IN ('treated', 'control', 'over_limit', 'cooldown', 'suppressed')),
    selected       TEXT NOT NULL,           -- JSON object: the row of the select
    PRIMARY KEY (action, interval_start, row_key)
);

CREATE TABLE trivet_deliveries (
    id             TEXT PRIMARY KEY,        -- the idempotency key
    action         TEXT NOT NULL,
    interval_start TIMESTAMPTZ NOT NULL,
    row_key        TEXT NOT NULL,
    place          BIGINT NOT NULL,
    state          TEXT NOT NULL CHECK (
        state IN ('proposed', 'pending', 'sending', 'sent', 'failed', 'bounced', 'suppressed')),
    reason         TEXT NOT NULL DEFAULT '',
    tries          BIGINT NOT NULL DEFAULT 0,  -- how often a process took it up
    owner          TEXT NOT NULL DEFAULT '',    -- who is sending it
    lease_until    DOUBLE PRECISION NOT NULL DEFAULT 0,     -- seconds since 1970 by the database's clock
    due_at         DOUBLE PRECISION NOT NULL DEFAULT 0,     -- not before; the same clock
    created_at     TIMESTAMPTZ NOT NULL,
    changed_at     TIMESTAMPTZ NOT NULL
);
CREATE INDEX trivet_deliveries_open ON trivet_deliveries (action, state, due_at);
