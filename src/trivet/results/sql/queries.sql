-- Every statement on the results tables. A name with a dialect behind a dot is that dialect's
-- form; {braces} take names of tables and columns, checked and quoted; values are bound.

-- name: clock.sqlite
-- The database's clock, seconds since 1970.
SELECT (julianday('now') - 2440587.5) * 86400.0 AS now

-- name: clock.postgresql
SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS now

-- name: has_layout.sqlite
-- Whether this database has Trivet's tables.
SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' AND name = 'trivet_schema'

-- name: has_layout.postgresql
SELECT count(*) AS n FROM information_schema.tables
WHERE table_schema = current_schema() AND table_name = 'trivet_schema'

-- name: lock_layout.sqlite
-- One process at a time changes tables; SQLite's write lock is enough.
SELECT 1 AS locked

-- name: lock_layout.postgresql
SELECT CAST(pg_advisory_xact_lock(7284635) AS text) AS locked

-- name: create_layout
CREATE TABLE IF NOT EXISTS trivet_schema (version INTEGER NOT NULL)

-- name: layout_version
SELECT max(version) AS version FROM trivet_schema

-- name: add_layout_version
INSERT INTO trivet_schema (version) VALUES (CAST($version AS INTEGER))

-- name: register
-- Insert or refresh a deployment.
INSERT INTO trivet_deployments (
    name, kind, model, schedule, timezone, start_at, delay_seconds, view_name, key_columns,
    keep_columns, manifest, registered_at
) VALUES (
    $name, $kind, $model, $schedule, $timezone, $start_at, $delay_seconds, $view_name,
    $key_columns, $keep_columns, $manifest, $registered_at
)
ON CONFLICT (name) DO UPDATE SET
    kind = excluded.kind, model = excluded.model, schedule = excluded.schedule,
    timezone = excluded.timezone, start_at = excluded.start_at,
    delay_seconds = excluded.delay_seconds, view_name = excluded.view_name,
    key_columns = excluded.key_columns, keep_columns = excluded.keep_columns,
    manifest = excluded.manifest, registered_at = excluded.registered_at

-- name: lock_deployment.sqlite
-- Claims of one deployment happen one after the other.
SELECT name FROM trivet_deployments WHERE name = $deployment

-- name: lock_deployment.postgresql
SELECT name FROM trivet_deployments WHERE name = $deployment FOR UPDATE

-- name: running
-- Attempts of a deployment that say they are running.
SELECT attempt, interval_start, interval_end, owner, lease_until
FROM trivet_runs WHERE deployment = $deployment AND state = 'running'
ORDER BY attempt

-- name: claim
-- Begin an attempt; the unique index refuses a second one at the same interval.
INSERT INTO trivet_runs (
    deployment, interval_start, interval_end, number, state, cause, owner, lease_until,
    model_name, model_version, model_digest, started_at
)
SELECT $deployment, $interval_start, $interval_end, 1 + count(*), 'running', $cause, $owner,
    $lease_until, $model_name, $model_version, $model_digest, $started_at
FROM trivet_runs WHERE deployment = $deployment AND interval_start = $interval_start
RETURNING attempt, number

-- name: heartbeat
-- Prolong a lease; no row comes back if the attempt was declared dead.
UPDATE trivet_runs SET lease_until = $lease_until
WHERE attempt = $attempt AND state = 'running'
RETURNING attempt

-- name: guard.sqlite
-- Hold an attempt's state still for the length of a transaction.
SELECT attempt FROM trivet_runs WHERE attempt = $attempt AND state = 'running'

-- name: guard.postgresql
SELECT attempt FROM trivet_runs WHERE attempt = $attempt AND state = 'running' FOR SHARE

-- name: finish
-- End an attempt that is still running; no row comes back if it was declared dead.
UPDATE trivet_runs SET
    state = $state, ended_at = $ended_at, rows_read = $rows_read, rows_scored = $rows_scored,
    rows_rejected = $rows_rejected, seconds = $seconds, warning = NULLIF($warning, ''),
    error = NULLIF($error, '')
WHERE attempt = $attempt AND state = 'running'
RETURNING attempt

-- name: publish
-- Point an interval at the attempt that now counts.
INSERT INTO trivet_published (deployment, interval_start, interval_end, attempt)
VALUES ($deployment, $interval_start, $interval_end, $attempt)
ON CONFLICT (deployment, interval_start) DO UPDATE SET
    interval_end = excluded.interval_end, attempt = excluded.attempt

-- name: published
-- The intervals of a deployment that have published predictions.
SELECT p.interval_start, p.interval_end, p.attempt, r.rows_read, r.rows_scored
FROM trivet_published p JOIN trivet_runs r ON r.attempt = p.attempt
WHERE p.deployment = $deployment ORDER BY p.interval_start

-- name: failures
-- Intervals without a published attempt whose runs failed: how often, and when last. The attempts
-- of one run, made again after a lost connection, have one owner and count as one failure.
SELECT r.interval_start, count(DISTINCT r.owner) AS failures, max(r.ended_at) AS last_ended_at
FROM trivet_runs r
WHERE r.deployment = $deployment AND r.state = 'failed'
  AND NOT EXISTS (SELECT 1 FROM trivet_published p
                  WHERE p.deployment = r.deployment AND p.interval_start = r.interval_start)
GROUP BY r.interval_start

-- name: runs
-- The newest attempts, of one deployment or (empty name) of all.
SELECT r.attempt, r.deployment, r.interval_start, r.interval_end, r.number, r.state, r.cause,
    r.owner, r.model_name, r.model_version, r.model_digest, r.started_at, r.ended_at,
    r.rows_read, r.rows_scored, r.rows_rejected, r.seconds, r.warning, r.error,
    CASE WHEN p.attempt IS NULL THEN 0 ELSE 1 END AS is_published
FROM trivet_runs r LEFT JOIN trivet_published p ON p.attempt = r.attempt
WHERE $deployment = '' OR r.deployment = $deployment
ORDER BY r.attempt DESC LIMIT $limit

-- name: reject_counts
-- Rejects by code and field, of each interval's last attempt that succeeded or failed: those of
-- an earlier one are about to be swept.
SELECT r.code, r.field, count(*) AS n
FROM trivet_rejects r JOIN trivet_runs a ON a.attempt = r.attempt
WHERE r.deployment = $deployment AND a.interval_start >= $since AND a.interval_start < $until
  AND a.state IN ('succeeded', 'failed') AND NOT EXISTS (
      SELECT 1 FROM trivet_runs n
      WHERE n.deployment = a.deployment AND n.interval_start = a.interval_start
        AND n.attempt > a.attempt AND n.state IN ('succeeded', 'failed'))
GROUP BY r.code, r.field ORDER BY n DESC, r.code, r.field

-- name: rejects
-- Rejected rows of the same attempts with their interval, the newest intervals first.
SELECT a.interval_start, a.interval_end, r.attempt, r.row_key, r.field, r.code, r.reason
FROM trivet_rejects r JOIN trivet_runs a ON a.attempt = r.attempt
WHERE r.deployment = $deployment AND a.interval_start >= $since AND a.interval_start < $until
  AND a.state IN ('succeeded', 'failed') AND NOT EXISTS (
      SELECT 1 FROM trivet_runs n
      WHERE n.deployment = a.deployment AND n.interval_start = a.interval_start
        AND n.attempt > a.attempt AND n.state IN ('succeeded', 'failed'))
ORDER BY a.interval_start DESC, r.row_key, r.field LIMIT $limit

-- name: columns.sqlite
-- The columns of a table and their declared types, in order.
SELECT name, lower(type) AS type FROM pragma_table_info($table)

-- name: columns.postgresql
SELECT CAST(column_name AS text) AS name, CAST(data_type AS text) AS type
FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = $table ORDER BY ordinal_position

-- name: create_predictions
CREATE TABLE IF NOT EXISTS {table} (attempt BIGINT NOT NULL)

-- name: add_column
ALTER TABLE {table} ADD COLUMN {column} {type}

-- name: index_predictions.sqlite
-- Attempts are appended in order, so this index only grows at its end.
CREATE INDEX IF NOT EXISTS {index} ON {table} (attempt)

-- name: index_predictions.postgresql
-- A block range index: attempts lie together, and it costs a third of what a tree would.
CREATE INDEX IF NOT EXISTS {index} ON {table} USING brin (attempt) WITH (pages_per_range = 16)

-- name: drop_view.sqlite
DROP VIEW IF EXISTS {view}

-- name: drop_view.postgresql
-- Nothing is dropped: a view that is replaced keeps its grants and what depends on it.
SELECT 1 AS kept

-- name: create_view
-- What everyone reads: published rows with their lineage, which is the same for all rows of an
-- attempt and therefore stored once, in trivet_runs.
{create} {view} AS
SELECT {columns}
FROM (
    SELECT p.*, r.interval_start, r.interval_end, r.model_name, r.model_version, r.model_digest,
        r.ended_at AS scored_at
    FROM {table} p
    JOIN trivet_published u ON u.attempt = p.attempt
    JOIN trivet_runs r ON r.attempt = p.attempt
) v

-- name: to_sweep
-- Attempts whose rows nobody can see any more, by what is left of them. Rejects of a failed
-- attempt stay until another attempt at its interval has ended, or its interval is too old.
SELECT r.attempt, r.deployment, r.has_predictions,
    CASE WHEN r.has_rejects AND (r.state <> 'failed' OR r.interval_end <= $before OR EXISTS (
        SELECT 1 FROM trivet_runs n
        WHERE n.deployment = r.deployment AND n.interval_start = r.interval_start
          AND n.attempt > r.attempt AND n.state IN ('succeeded', 'failed')
    )) THEN 1 ELSE 0 END AS rejects_too
FROM trivet_runs r
WHERE r.deployment = $deployment AND r.state <> 'running'
  AND (r.has_predictions OR r.has_rejects)
  AND NOT EXISTS (SELECT 1 FROM trivet_published p WHERE p.attempt = r.attempt)
ORDER BY r.attempt

-- name: sweep_some.sqlite
-- Delete a bounded number of an attempt's rows.
DELETE FROM {table} WHERE {rowid} IN (
    SELECT {rowid} FROM {table} WHERE attempt = $attempt LIMIT $limit
) RETURNING 1 AS gone

-- name: sweep_some.postgresql
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {table} WHERE attempt = $attempt LIMIT $limit FOR UPDATE SKIP LOCKED
)) RETURNING 1 AS gone

-- name: sweep_profiles
DELETE FROM trivet_profiles WHERE attempt = $attempt

-- name: swept
-- Note that nothing is left; not while another process that sweeps too may still fail to.
UPDATE trivet_runs SET {done} = false WHERE attempt = $attempt
  AND NOT EXISTS (SELECT 1 FROM {table} WHERE attempt = $attempt)

-- name: unpublish_before
-- Forget intervals that ended before a moment; their rows are swept after.
DELETE FROM trivet_published
WHERE deployment = $deployment AND interval_end <= $before
RETURNING attempt

-- name: deployments
SELECT name, kind, model, schedule, timezone, view_name FROM trivet_deployments ORDER BY name

-- name: summary
-- Totals of a deployment's published intervals.
SELECT count(*) AS intervals, sum(r.rows_read) AS rows_read, sum(r.rows_scored) AS rows_scored,
    sum(r.rows_rejected) AS rows_rejected
FROM trivet_published p JOIN trivet_runs r ON r.attempt = p.attempt
WHERE p.deployment = $deployment

-- name: lineage
-- The number of a model's version in a deployment, given at its first use.
INSERT INTO trivet_lineages (deployment, model_name, model_version, model_digest, first_used_at)
VALUES ($deployment, $model_name, $model_version, $model_digest, $first_used_at)
ON CONFLICT (deployment, model_version, model_digest) DO UPDATE SET model_name = excluded.model_name
RETURNING lineage

-- name: create_rows.sqlite
-- Predictions that come row by row; what its host and its deployment add to each is added after.
CREATE TABLE IF NOT EXISTS {table} (
    lineage BIGINT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, scored_at TEXT NOT NULL
)

-- name: create_rows.postgresql
CREATE TABLE IF NOT EXISTS {table} (
    lineage BIGINT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL,
    scored_at TIMESTAMP WITH TIME ZONE NOT NULL
)

-- name: index_rows
-- A row that is sent again counts once.
CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {table} (source, id)

-- name: index_rows_time.sqlite
CREATE INDEX IF NOT EXISTS {index} ON {table} (scored_at)

-- name: index_rows_time.postgresql
CREATE INDEX IF NOT EXISTS {index} ON {table} USING brin (scored_at) WITH (pages_per_range = 16)

-- name: create_rows_view
-- What everyone reads: the rows with their lineage.
{create} {view} AS
SELECT {columns}
FROM (
    SELECT p.*, l.model_name, l.model_version, l.model_digest
    FROM {table} p JOIN trivet_lineages l ON l.lineage = p.lineage
) v

-- name: drop_staging
DROP TABLE IF EXISTS {staging}

-- name: create_staging
-- Where rows are appended before those that are there already are told apart.
CREATE TEMPORARY TABLE {staging} AS SELECT * FROM {table} WHERE 1 = 0

-- name: insert_staged
-- Move the staged rows over, leaving out those that are there already; tell those that were moved.
INSERT INTO {table} ({columns}) SELECT {columns} FROM {staging} WHERE 1 = 1
ON CONFLICT DO NOTHING
RETURNING source, id

-- name: empty_staging
DELETE FROM {staging}
