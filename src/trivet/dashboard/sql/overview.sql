-- What the overview asks.

-- name: attempts
-- The newest attempts of a deployment, and whether they are published.
SELECT r.attempt, r.interval_start, r.interval_end, r.number, r.state, r.cause, r.model_version,
    r.started_at, r.ended_at, r.rows_read, r.rows_scored, r.rows_rejected, r.error, r.warning,
    r.seconds, CASE WHEN p.attempt IS NULL THEN 0 ELSE 1 END AS is_published
FROM trivet_runs r LEFT JOIN trivet_published p ON p.attempt = r.attempt
WHERE r.deployment = $deployment ORDER BY r.attempt DESC LIMIT $limit

-- name: newest_row.sqlite
-- When the newest row of a prediction log was written.
SELECT max(scored_at) AS scored_at FROM {table}

-- name: newest_row.postgresql
-- The newest rows lie in the last blocks, which a scan by place finds at once.
SELECT max(scored_at) AS scored_at FROM {table} WHERE ctid >= CAST($place AS tid)

-- name: last_blocks.sqlite
-- Where a scan for the newest rows begins; SQLite has an index for it.
SELECT 0 AS block

-- name: last_blocks.postgresql
SELECT greatest(pg_relation_size(CAST($table_name AS regclass)) / 8192 - 16, 0) AS block

-- name: rows_by_hour
-- Rows of a prediction log by hour, from the profiles.
SELECT hour, sum(n) AS n FROM (
    SELECT hour, lineage, max(row_count) AS n FROM trivet_hourly_profiles
    WHERE deployment = $deployment AND side = 'output' AND hour >= $since AND hour < $until
    GROUP BY hour, lineage
) AS versions
GROUP BY hour ORDER BY hour

-- name: log_rejects
-- Problems of rows that came alone, of a service or a stream, in a span.
SELECT count(*) AS n, max(rejected_at) AS newest FROM trivet_rejects
WHERE deployment = $deployment AND attempt = 0 AND rejected_at >= $since AND rejected_at < $until
