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
SELECT max(scored_at) AS scored_at FROM {table}
WHERE ctid >= CAST('(' || greatest(pg_relation_size(CAST($table_name AS regclass)) / 8192 - 16, 0)
    || ',0)' AS tid)

-- name: rows_by_day.sqlite
-- Rows of a prediction log by day.
SELECT substr(scored_at, 1, 10) AS day, count(*) AS n FROM {table}
WHERE scored_at >= $since AND scored_at < $until GROUP BY 1 ORDER BY 1

-- name: rows_by_day.postgresql
SELECT to_char(scored_at, 'YYYY-MM-DD') AS day, count(*) AS n FROM {table}
WHERE scored_at >= $since AND scored_at < $until GROUP BY 1 ORDER BY 1

-- name: log_rejects
-- Problems of rows that came alone, of a service or a stream, in a span.
SELECT count(*) AS n, max(rejected_at) AS newest FROM trivet_rejects
WHERE deployment = $deployment AND attempt = 0 AND rejected_at >= $since AND rejected_at < $until
