-- The backend's own database: the rides, what was told of them, and the events still to be sent.
CREATE TABLE IF NOT EXISTS rides (
    ride_id          TEXT PRIMARY KEY,
    user_id          TEXT NOT NULL,
    requested_at     TEXT NOT NULL,       -- UTC, as all times here: 2019-07-01T04:00:00Z
    pickup_at        TEXT NOT NULL,
    pickup_zone      INTEGER NOT NULL,
    dropoff_zone     INTEGER NOT NULL,
    passengers       INTEGER NOT NULL,
    payment          TEXT NOT NULL,
    duration_minutes REAL NOT NULL,       -- the first estimates, as the passenger was told them
    duration_source  TEXT NOT NULL,
    duration_version TEXT NOT NULL,
    duration_reason  TEXT NOT NULL,
    fare             REAL NOT NULL,
    fare_source      TEXT NOT NULL,
    fare_version     TEXT NOT NULL,
    fare_reason      TEXT NOT NULL,
    ended_at         TEXT,                -- what was true in the end
    true_minutes     REAL,
    true_fare        REAL,
    true_tip         REAL,
    true_total       REAL
) STRICT;

CREATE INDEX IF NOT EXISTS rides_user ON rides (user_id, requested_at);

CREATE INDEX IF NOT EXISTS rides_pickup_at ON rides (pickup_at);

-- What the stream said: one row a ride and kind, however often an event comes.
CREATE TABLE IF NOT EXISTS answers (
    ride_id TEXT NOT NULL REFERENCES rides,
    kind    TEXT NOT NULL,
    answer  TEXT NOT NULL,                -- JSON: the outputs
    PRIMARY KEY (ride_id, kind)
) STRICT, WITHOUT ROWID;

-- Events to be sent, in order; a row goes when the broker has it.
CREATE TABLE IF NOT EXISTS outbox (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    type     TEXT NOT NULL,
    time     TEXT NOT NULL,
    ride_id  TEXT NOT NULL,
    data     TEXT NOT NULL                -- JSON
) STRICT;
