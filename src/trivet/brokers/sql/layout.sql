-- The tables of the embedded broker's file, made together when the file is.

-- name: tables
SELECT count(*) FROM sqlite_master

-- name: create_topics
CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    partitions INTEGER NOT NULL
)

-- name: create_logs
-- A partition of a topic. Its offsets run from first_offset to next_offset without a gap.
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL REFERENCES topics (id),
    partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL DEFAULT 0,
    next_offset INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    last_time INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
)

-- name: create_chunks
-- Events appended together. The id is that of the log, times 2^40, plus the first event's offset;
-- the body is MessagePack of their keys, values and headers. It stands last, so that the other
-- columns are read without it.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    events INTEGER NOT NULL,
    time INTEGER NOT NULL,
    body BLOB NOT NULL
)

-- name: create_committed
-- The next offset that a group reads.
CREATE TABLE committed (
    group_name TEXT NOT NULL,
    log INTEGER NOT NULL REFERENCES logs (id),
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (group_name, log)
) WITHOUT ROWID

-- name: create_members
-- Members of groups. An id is never given again, so it fences off a member that was taken for dead.
CREATE TABLE members (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_name TEXT NOT NULL,
    topic INTEGER NOT NULL REFERENCES topics (id),
    owner TEXT NOT NULL,
    instance TEXT,
    lease_until REAL NOT NULL
)

-- name: create_claims
-- Which member of a group has which partition.
CREATE TABLE claims (
    group_name TEXT NOT NULL,
    log INTEGER NOT NULL REFERENCES logs (id),
    member INTEGER NOT NULL,
    PRIMARY KEY (group_name, log)
) WITHOUT ROWID

-- name: create_generations
-- Goes up whenever members or claims of a group change.
CREATE TABLE generations (
    group_name TEXT NOT NULL,
    topic INTEGER NOT NULL REFERENCES topics (id),
    generation INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic)
) WITHOUT ROWID

-- name: create_transactions
-- The newest appender of each transaction name.
CREATE TABLE transactions (
    name TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL
) WITHOUT ROWID
