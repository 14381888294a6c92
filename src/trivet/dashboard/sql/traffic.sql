-- Rate, latency and errors of a service or a stream, from its prediction log.

-- name: hour_counts
-- Rows by hour, from the profiles: a few rows however large the log.
SELECT hour AS at, sum(row_count) AS n FROM trivet_hourly_profiles
WHERE deployment = $deployment AND side = 'output' AND column_name = $column
  AND hour >= $since AND hour < $until
GROUP BY hour ORDER BY hour

-- name: log_counts.sqlite
-- Rows by span of so many seconds, from the log itself.
SELECT CAST(strftime('%s', scored_at) AS INTEGER) / $width * $width AS at, count(*) AS n
FROM {table} WHERE scored_at >= $since AND scored_at < $until GROUP BY 1 ORDER BY 1

-- name: log_counts.postgresql
SELECT CAST(floor(extract(epoch FROM scored_at) / $width) * $width AS bigint) AS at, count(*) AS n
FROM {table} WHERE scored_at >= $since AND scored_at < $until GROUP BY 1 ORDER BY 1

-- name: log_latencies.sqlite
-- Percentiles of the latency by span of time, over one row of so many.
SELECT at, max(n) AS n, min(CASE WHEN place >= 0.5 * n THEN v END) AS p50,
    min(CASE WHEN place >= 0.95 * n THEN v END) AS p95,
    min(CASE WHEN place >= 0.99 * n THEN v END) AS p99
FROM (
    SELECT at, v, row_number() OVER (PARTITION BY at ORDER BY v) AS place,
        count(*) OVER (PARTITION BY at) AS n
    FROM (
        SELECT CAST(strftime('%s', scored_at) AS INTEGER) / $width * $width AS at, {latency} AS v
        FROM {table}
        WHERE scored_at >= $since AND scored_at < $until AND rowid % $step = 0
    ) AS sampled WHERE v IS NOT NULL
) AS ranked
GROUP BY at ORDER BY at

-- name: log_latencies.postgresql
SELECT at, max(n) AS n, min(CASE WHEN place >= 0.5 * n THEN v END) AS p50,
    min(CASE WHEN place >= 0.95 * n THEN v END) AS p95,
    min(CASE WHEN place >= 0.99 * n THEN v END) AS p99
FROM (
    SELECT at, v, row_number() OVER (PARTITION BY at ORDER BY v) AS place,
        count(*) OVER (PARTITION BY at) AS n
    FROM (
        SELECT CAST(floor(extract(epoch FROM scored_at) / $width) * $width AS bigint) AS at,
            CAST({latency} AS double precision) AS v
        FROM {table} TABLESAMPLE SYSTEM (CAST(100.0 / $step AS real)) REPEATABLE (1)
        WHERE scored_at >= $since AND scored_at < $until
    ) AS sampled WHERE v IS NOT NULL
) AS ranked
GROUP BY at ORDER BY at

-- name: latency_of_events.sqlite
-- Of a stream: from the event's own time to its prediction.
(julianday(scored_at) - julianday(event_at)) * 86400.0

-- name: latency_of_events.postgresql
extract(epoch FROM scored_at - event_at)

-- name: log_errors.sqlite
-- Rows that could not be scored, by span of time and code.
SELECT CAST(strftime('%s', rejected_at) AS INTEGER) / $width * $width AS at, code, count(*) AS n
FROM trivet_rejects
WHERE attempt = 0 AND deployment = $deployment
  AND rejected_at >= $since AND rejected_at < $until
GROUP BY 1, 2 ORDER BY 1, 2

-- name: log_errors.postgresql
SELECT CAST(floor(extract(epoch FROM rejected_at) / $width) * $width AS bigint) AS at, code,
    count(*) AS n
FROM trivet_rejects
WHERE attempt = 0 AND deployment = $deployment
  AND rejected_at >= $since AND rejected_at < $until
GROUP BY 1, 2 ORDER BY 1, 2

-- name: offsets
-- How far a stream has come.
SELECT topic, partition_number, next_offset, moved_at FROM trivet_offsets
WHERE deployment = $deployment ORDER BY topic, partition_number
