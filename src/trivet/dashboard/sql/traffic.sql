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
-- The latencies of every row, as a JSON list for each span of time.
SELECT at, json_group_array(v) AS latencies FROM (
    SELECT CAST(strftime('%s', scored_at) AS INTEGER) / $width * $width AS at, {latency} AS v
    FROM {table} WHERE scored_at >= $since AND scored_at < $until
) AS found
WHERE v IS NOT NULL GROUP BY at ORDER BY at

-- name: log_latencies.postgresql
SELECT at, CAST(json_agg(v) AS text) AS latencies FROM (
    SELECT CAST(floor(extract(epoch FROM scored_at) / $width) * $width AS bigint) AS at,
        CAST({latency} AS double precision) AS v
    FROM {table} WHERE scored_at >= $since AND scored_at < $until
) AS found
WHERE v IS NOT NULL GROUP BY at ORDER BY at

-- name: sampled_latencies.sqlite
-- The same of one row of so many: rows are numbered as they were written.
WITH RECURSIVE bounds(first, last) AS (
    SELECT (SELECT rowid FROM {table} WHERE scored_at >= $since ORDER BY scored_at LIMIT 1),
        (SELECT rowid FROM {table} WHERE scored_at < $until ORDER BY scored_at DESC LIMIT 1)
), picked(place) AS (
    SELECT first FROM bounds WHERE first IS NOT NULL
    UNION ALL SELECT place + $step FROM picked, bounds WHERE place + $step <= last
)
SELECT at, json_group_array(v) AS latencies FROM (
    SELECT CAST(strftime('%s', scored_at) AS INTEGER) / $width * $width AS at, {latency} AS v
    FROM picked CROSS JOIN {table} AS log ON log.rowid = picked.place
    WHERE scored_at >= $since AND scored_at < $until
) AS found
WHERE v IS NOT NULL GROUP BY at ORDER BY at

-- name: sampled_latencies.postgresql
SELECT at, CAST(json_agg(v) AS text) AS latencies FROM (
    SELECT CAST(floor(extract(epoch FROM scored_at) / $width) * $width AS bigint) AS at,
        CAST({latency} AS double precision) AS v
    FROM {table} TABLESAMPLE SYSTEM (CAST(100.0 / $step AS real)) REPEATABLE (1)
    WHERE scored_at >= $since AND scored_at < $until
) AS found
WHERE v IS NOT NULL GROUP BY at ORDER BY at

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
