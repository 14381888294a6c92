-- What a deployment's page asks.

-- name: newest_interval
-- The end of the newest published interval.
SELECT max(interval_end) AS newest FROM trivet_published WHERE deployment = $deployment

-- name: newest_hour
SELECT max(hour) AS newest FROM trivet_hourly_profiles WHERE deployment = $deployment

-- name: interval_profiles
-- A column's profiles by published interval, the newest first.
SELECT p.interval_start AS starts, p.interval_end AS ends, p.attempt, r.model_version,
    f.row_count, f.null_count, f.counts, f.total, f.low, f.high
FROM trivet_published p
JOIN trivet_runs r ON r.attempt = p.attempt
JOIN trivet_profiles f
    ON f.attempt = p.attempt AND f.side = $side AND f.column_name = $column
WHERE p.deployment = $deployment AND p.interval_start >= $since AND p.interval_start < $until
ORDER BY p.interval_start DESC LIMIT $limit

-- name: hour_profiles
-- A column's profiles by hour, the newest first.
SELECT f.hour AS starts, NULL AS ends, 0 AS attempt, l.model_version,
    f.row_count, f.null_count, f.counts, f.total, f.low, f.high
FROM trivet_hourly_profiles f JOIN trivet_lineages l ON l.lineage = f.lineage
WHERE f.deployment = $deployment AND f.side = $side AND f.column_name = $column
  AND f.hour >= $since AND f.hour < $until
ORDER BY f.hour DESC, f.lineage DESC LIMIT $limit

-- name: hours_profiled
-- How many hours of a span have profiles of a column.
SELECT count(*) AS n FROM trivet_hourly_profiles
WHERE deployment = $deployment AND side = $side AND column_name = $column
  AND hour >= $since AND hour < $until

-- name: day_profiles.sqlite
-- Profiles by day and version, of one column or (empty) of all: sums, and the counts of every hour
-- in a list. Those on other bins are rows of their own.
SELECT substr(h.hour, 1, 10) AS day, l.model_version, h.side, h.column_name,
    sum(h.row_count) AS row_count, sum(h.null_count) AS null_count,
    '[' || group_concat(h.counts) || ']' AS counts,
    sum(h.total) AS total, min(h.low) AS low, max(h.high) AS high
FROM trivet_hourly_profiles h JOIN trivet_lineages l ON l.lineage = h.lineage
WHERE h.deployment = $deployment AND h.hour >= $since AND h.hour < $until
  AND ($column = '' OR (h.side = $side AND h.column_name = $column))
GROUP BY 1, 2, 3, 4, length(h.counts) - length(replace(h.counts, ',', ''))
ORDER BY 1, min(h.hour), max(h.lineage)

-- name: day_profiles.postgresql
SELECT to_char(h.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, l.model_version, h.side,
    h.column_name, CAST(sum(h.row_count) AS bigint) AS row_count,
    CAST(sum(h.null_count) AS bigint) AS null_count,
    '[' || string_agg(h.counts, ',') || ']' AS counts,
    sum(h.total) AS total, min(h.low) AS low, max(h.high) AS high
FROM trivet_hourly_profiles h JOIN trivet_lineages l ON l.lineage = h.lineage
WHERE h.deployment = $deployment AND h.hour >= $since AND h.hour < $until
  AND ($column = '' OR (h.side = $side AND h.column_name = $column))
GROUP BY 1, 2, 3, 4, length(h.counts) - length(replace(h.counts, ',', ''))
ORDER BY 1, min(h.hour), max(h.lineage)

-- name: newest_intervals
-- The start of the first of the newest published intervals of a span.
SELECT min(interval_start) AS since FROM (
    SELECT interval_start FROM trivet_published
    WHERE deployment = $deployment AND interval_start >= $since AND interval_start < $until
    ORDER BY interval_start DESC LIMIT $limit
) AS newest

-- name: interval_versions
-- Which version of the model made which intervals.
SELECT r.model_version, r.model_digest, min(p.interval_start) AS first_start,
    max(p.interval_end) AS last_end, count(*) AS periods, sum(r.rows_scored) AS n,
    min(r.started_at) AS first_used
FROM trivet_published p JOIN trivet_runs r ON r.attempt = p.attempt
WHERE p.deployment = $deployment
GROUP BY r.model_version, r.model_digest ORDER BY min(r.started_at) DESC

-- name: hour_versions
SELECT l.model_version, l.model_digest, min(f.hour) AS first_start, max(f.hour) AS last_end,
    count(*) AS periods, sum(f.row_count) AS n, min(l.first_used_at) AS first_used
FROM trivet_lineages l LEFT JOIN trivet_hourly_profiles f
    ON f.deployment = l.deployment AND f.lineage = l.lineage AND f.side = 'output'
    AND f.column_name = $column
WHERE l.deployment = $deployment
GROUP BY l.model_version, l.model_digest ORDER BY min(l.first_used_at) DESC

-- name: published_sizes
-- The newest published intervals and their rows.
SELECT p.attempt, p.interval_start, p.interval_end, r.rows_scored
FROM trivet_published p JOIN trivet_runs r ON r.attempt = p.attempt
WHERE p.deployment = $deployment AND p.interval_start >= $since AND p.interval_start < $until
ORDER BY p.interval_start DESC LIMIT $limit

-- name: breakdown_of_intervals.sqlite
-- Rows and predictions by the value of a column, over some attempts.
SELECT value, count(*) AS n, avg(y) AS mean, sum(CASE WHEN y IS NULL THEN 1 ELSE 0 END) AS nulls
FROM (
    SELECT {value} AS value, {measure} AS y FROM {table}
    WHERE attempt IN (SELECT value FROM json_each('[' || $attempts || ']')) LIMIT $most
) AS picked
GROUP BY value ORDER BY n DESC, value LIMIT $limit

-- name: breakdown_of_intervals.postgresql
-- Materialised for the sake of its plan, as in rows_of_intervals.
WITH found AS MATERIALIZED (
    SELECT {value} AS value, {measure} AS y FROM {table}
    WHERE attempt = ANY (CAST(string_to_array($attempts, ',') AS bigint[]))
)
SELECT value, count(*) AS n, CAST(avg(y) AS double precision) AS mean,
    sum(CASE WHEN y IS NULL THEN 1 ELSE 0 END) AS nulls
FROM (
    SELECT * FROM found LIMIT $most
) AS picked
GROUP BY value ORDER BY n DESC, value LIMIT $limit

-- name: breakdown_of_rows
-- Rows and predictions by the value of a column, over the newest rows of a span.
SELECT value, count(*) AS n, CAST(avg(y) AS double precision) AS mean,
    sum(CASE WHEN y IS NULL THEN 1 ELSE 0 END) AS nulls
FROM (
    SELECT {value} AS value, {measure} AS y FROM {table}
    WHERE scored_at >= $since AND scored_at < $until LIMIT $most
) AS picked
GROUP BY value ORDER BY n DESC, value LIMIT $limit

-- name: rows_of_intervals.sqlite
-- Predictions of some attempts with their lineage, the newest attempt first.
SELECT {columns}, interval_start, interval_end, attempt, model_version, model_digest, scored_at
FROM {view}
WHERE attempt IN (SELECT value FROM json_each('[' || $attempts || ']')) AND ({search})
LIMIT $limit

-- name: rows_of_intervals.postgresql
-- What is materialised is planned as if all of it were asked for, so the attempts' blocks are read
-- and not the table until enough rows were met; it still ends after the first rows.
WITH found AS MATERIALIZED (
    SELECT {columns}, interval_start, interval_end, attempt, model_version, model_digest, scored_at
    FROM {view}
    WHERE attempt = ANY (CAST(string_to_array($attempts, ',') AS bigint[])) AND ({search})
)
SELECT * FROM found LIMIT $limit

-- name: rows_of_log
-- The newest rows of a prediction log with their lineage.
SELECT {columns}, id, scored_at, model_version, model_digest{more}
FROM {view}
WHERE scored_at >= $since AND scored_at < $until
ORDER BY scored_at DESC LIMIT $limit

-- name: rows_of_log_by_source
-- Rows of a prediction log about one key: the index finds them in any number of rows.
SELECT {columns}, id, scored_at, model_version, model_digest{more}
FROM {view}
WHERE source = $source ORDER BY scored_at DESC LIMIT $limit

-- name: rows_of_log_by_id
-- Rows of a prediction log without a key, by the id that the answer told.
SELECT {columns}, id, scored_at, model_version, model_digest{more}
FROM {view}
WHERE source = $source AND id = $id ORDER BY scored_at DESC LIMIT $limit

-- name: part_hour.sqlite
-- Parts of a moment, in UTC.
substr({column}, 12, 2)

-- name: part_hour.postgresql
to_char({column} AT TIME ZONE 'UTC', 'HH24')

-- name: part_weekday.sqlite
CASE strftime('%w', {column}) WHEN '0' THEN '7 Sun' WHEN '1' THEN '1 Mon' WHEN '2' THEN '2 Tue'
    WHEN '3' THEN '3 Wed' WHEN '4' THEN '4 Thu' WHEN '5' THEN '5 Fri' WHEN '6' THEN '6 Sat' END

-- name: part_weekday.postgresql
to_char({column} AT TIME ZONE 'UTC', 'ID Dy')

-- name: part_month.sqlite
substr({column}, 1, 7)

-- name: part_month.postgresql
to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM')
