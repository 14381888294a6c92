-- True values, what they tell of the predictions, hourly profiles and manifests by version.

-- name: register_manifest
-- Keep what is told of a version, so that its old profiles can be read when a newer one is in use.
INSERT INTO trivet_manifests (deployment, model_version, model_digest, manifest, registered_at)
VALUES ($deployment, $model_version, $model_digest, $manifest, $registered_at)
ON CONFLICT (deployment, model_version, model_digest) DO UPDATE SET manifest = excluded.manifest

-- name: manifest_of_version
SELECT manifest FROM trivet_manifests
WHERE deployment = $deployment AND model_version = $model_version
ORDER BY registered_at DESC LIMIT 1

-- name: registered
-- What a deployment was registered with.
SELECT name, kind, view_name, key_columns, keep_columns, manifest
FROM trivet_deployments WHERE name = $deployment

-- name: add_hourly_profile.sqlite
-- Add counts to an hour's profile; those on other bins are left alone.
INSERT INTO trivet_hourly_profiles (
    deployment, hour, lineage, side, column_name, row_count, null_count, counts, total, low, high
) VALUES (
    $deployment, $hour, $lineage, $side, $column_name, $row_count, $null_count, $counts, $total,
    $low, $high
)
ON CONFLICT (deployment, hour, lineage, side, column_name) DO UPDATE SET
    row_count = row_count + excluded.row_count,
    null_count = null_count + excluded.null_count,
    counts = (SELECT json_group_array(a.value + b.value)
              FROM json_each(trivet_hourly_profiles.counts) a
              JOIN json_each(excluded.counts) b ON b.key = a.key),
    total = coalesce(total + excluded.total, total, excluded.total),
    low = CASE WHEN low IS NULL OR excluded.low < low THEN excluded.low ELSE low END,
    high = CASE WHEN high IS NULL OR excluded.high > high THEN excluded.high ELSE high END
WHERE json_array_length(trivet_hourly_profiles.counts) = json_array_length(excluded.counts)

-- name: add_hourly_profile.postgresql
INSERT INTO trivet_hourly_profiles AS p (
    deployment, hour, lineage, side, column_name, row_count, null_count, counts, total, low, high
) VALUES (
    $deployment, $hour, $lineage, $side, $column_name, $row_count, $null_count, $counts, $total,
    $low, $high
)
ON CONFLICT (deployment, hour, lineage, side, column_name) DO UPDATE SET
    row_count = p.row_count + excluded.row_count,
    null_count = p.null_count + excluded.null_count,
    counts = coalesce((
        SELECT '[' || string_agg(CAST(CAST(a.n AS bigint) + CAST(b.n AS bigint) AS text), ', '
                                 ORDER BY a.place) || ']'
        FROM json_array_elements_text(CAST(p.counts AS json)) WITH ORDINALITY AS a (n, place)
        JOIN json_array_elements_text(CAST(excluded.counts AS json)) WITH ORDINALITY AS b (n, place)
            ON b.place = a.place), '[]'),
    total = coalesce(p.total + excluded.total, p.total, excluded.total),
    low = least(p.low, excluded.low),
    high = greatest(p.high, excluded.high)
WHERE json_array_length(CAST(p.counts AS json)) = json_array_length(CAST(excluded.counts AS json))

-- name: hourly_profiles
-- A deployment's profiles by hour and version.
SELECT h.hour AS period_start, l.model_version, h.side, h.column_name, h.row_count, h.null_count,
    h.counts, h.total, h.low, h.high
FROM trivet_hourly_profiles h JOIN trivet_lineages l ON l.lineage = h.lineage
WHERE h.deployment = $deployment AND h.hour >= $since AND h.hour < $until
ORDER BY h.hour

-- name: interval_profiles
-- A deployment's profiles of published intervals.
SELECT u.interval_start AS period_start, u.interval_end AS period_end, r.model_version, f.side,
    f.column_name, f.row_count, f.null_count, f.counts, f.total, f.low, f.high
FROM trivet_published u
JOIN trivet_runs r ON r.attempt = u.attempt
JOIN trivet_profiles f ON f.attempt = u.attempt
WHERE u.deployment = $deployment AND u.interval_start >= $since AND u.interval_start < $until
ORDER BY u.interval_start

-- name: stage_actuals
-- Where true values are appended before they replace those of the same keys.
CREATE TEMPORARY TABLE IF NOT EXISTS staging_actuals AS
SELECT * FROM trivet_actuals WHERE 1 = 0

-- name: unstage_actuals
DELETE FROM staging_actuals

-- name: replace_actuals
-- A later pull replaces; what did not change is not written again.
INSERT INTO trivet_actuals (deployment, row_key, interval_start, number, label, pulled_at)
SELECT deployment, row_key, interval_start, number, label, pulled_at
FROM staging_actuals WHERE 1 = 1
ON CONFLICT (deployment, interval_start, row_key) DO UPDATE SET
    number = excluded.number, label = excluded.label, pulled_at = excluded.pulled_at
WHERE trivet_actuals.number IS DISTINCT FROM excluded.number
   OR trivet_actuals.label IS DISTINCT FROM excluded.label

-- name: analyze_actuals
-- Tell PostgreSQL how many true values there are. Until it finds out by itself, a minute or so after
-- the first pull, it expects none, and looks for each of them in all of the predictions.
ANALYZE trivet_actuals

-- name: add_pull
INSERT INTO trivet_pulls (
    deployment, interval_start, interval_end, pulled_at, row_count, unusable_count
) VALUES (
    $deployment, $interval_start, $interval_end, $pulled_at, $row_count, $unusable_count
)
ON CONFLICT (deployment, interval_start) DO UPDATE SET
    interval_end = excluded.interval_end, pulled_at = excluded.pulled_at,
    row_count = excluded.row_count, unusable_count = excluded.unusable_count

-- name: pulls
-- What was pulled for a deployment, the newest first.
SELECT interval_start, interval_end, pulled_at, row_count, unusable_count
FROM trivet_pulls WHERE deployment = $deployment ORDER BY pulled_at DESC, interval_start DESC

-- name: actuals
-- True values by key, of one interval.
SELECT row_key, number, label FROM trivet_actuals
WHERE deployment = $deployment AND interval_start = $interval_start

-- name: forget_measured_interval
DELETE FROM trivet_measured WHERE deployment = $deployment AND period_start = $interval_start

-- name: forget_measured_attempts
-- Have those attempts measured again whose rows have a true value of this pull. Where predictions
-- meet true values SQLite must go from the former to the latter, which have an index by key: that
-- is what CROSS says to it, and nothing to PostgreSQL.
DELETE FROM trivet_measured WHERE deployment = $deployment AND attempt IN (
    SELECT p.attempt FROM {table} p
    CROSS JOIN trivet_actuals a
    WHERE a.deployment = $deployment AND a.interval_start = $interval_start
        AND a.row_key = {key} AND a.pulled_at = $pulled_at)

-- name: forget_measured_hours
DELETE FROM trivet_measured WHERE deployment = $deployment AND period_start IN (
    SELECT {hour} FROM {table} p
    CROSS JOIN trivet_actuals a
    WHERE a.deployment = $deployment AND a.interval_start = $interval_start
        AND a.row_key = {key} AND a.pulled_at = $pulled_at)

-- name: hour_of.sqlite
strftime('%Y-%m-%d %H:00:00', p.scored_at)

-- name: hour_of.postgresql
date_trunc('hour', p.scored_at)

-- name: unmeasured_intervals
-- Published intervals whose present predictions were not measured since the last true value came.
SELECT p.interval_start AS period_start, p.interval_end AS period_end, p.attempt, r.model_version
FROM trivet_published p
JOIN trivet_runs r ON r.attempt = p.attempt
LEFT JOIN trivet_measured m ON m.deployment = p.deployment AND m.period_start = p.interval_start
WHERE p.deployment = $deployment AND (m.attempt IS NULL OR m.attempt <> p.attempt)
ORDER BY p.interval_start

-- name: measured_hours
-- Hours that have predictions, and when they were measured.
SELECT h.hour AS period_start, max(m.measured_at) AS measured_at
FROM trivet_hourly_profiles h
LEFT JOIN trivet_measured m ON m.deployment = h.deployment AND m.period_start = h.hour
WHERE h.deployment = $deployment
GROUP BY h.hour ORDER BY h.hour

-- name: joined_attempt
-- The predictions of an attempt that have a true value.
SELECT CAST($model_version AS TEXT) AS model_version, {segment} AS value, {predicted} AS predicted,
    a.number AS number, a.label AS label
FROM {table} p
CROSS JOIN trivet_actuals a
WHERE p.attempt = $attempt AND a.deployment = $deployment AND a.interval_start = $truth
    AND a.row_key = {key}

-- name: joined_rows
-- The predictions of an hour that have a true value.
SELECT l.model_version AS model_version, {segment} AS value, {predicted} AS predicted,
    a.number AS number, a.label AS label
FROM {table} p
JOIN trivet_lineages l ON l.lineage = p.lineage
CROSS JOIN trivet_actuals a
WHERE p.scored_at >= $since AND p.scored_at < $until
    AND a.deployment = $deployment AND a.interval_start = $truth AND a.row_key = {key}

-- name: values_of_attempt
-- How many values a column has, counted up to a limit.
SELECT count(*) AS n FROM (
    SELECT DISTINCT {segment} AS value FROM {table} p WHERE p.attempt = $attempt LIMIT $limit) v

-- name: values_of_rows
SELECT count(*) AS n FROM (
    SELECT DISTINCT {segment} AS value FROM {table} p
    WHERE p.scored_at >= $since AND p.scored_at < $until LIMIT $limit) v

-- name: measure_regression
-- Sums of the errors by version and segment.
SELECT model_version, value, count(*) AS row_count,
    sum(predicted - number) AS error_sum, sum(abs(predicted - number)) AS absolute_sum,
    sum((predicted - number) * (predicted - number)) AS squared_sum, sum(number) AS actual_sum
FROM ({joined}) j WHERE predicted IS NOT NULL AND number IS NOT NULL
GROUP BY model_version, value

-- name: measure_classes
-- How many classes are right by version and segment.
SELECT model_version, value, count(*) AS row_count,
    sum(CASE WHEN predicted = label THEN 1 ELSE 0 END) AS right_count
FROM ({joined}) j WHERE predicted IS NOT NULL AND label IS NOT NULL
GROUP BY model_version, value

-- name: measure_binary
-- Counts of scores by version, segment and bin of the log-odds; see trivet.monitoring.quality.
SELECT model_version, value, CAST(floor({bins} * ln(near / (1.0 - near))) AS BIGINT) AS bin,
    count(*) AS row_count, sum(positive) AS positive_count, sum(predicted) AS score_sum,
    sum(CASE WHEN predicted >= {threshold} THEN positive ELSE 0 END) AS true_positives,
    sum(CASE WHEN predicted >= {threshold} THEN 1 - positive ELSE 0 END) AS false_positives,
    sum(-ln(CASE WHEN sure < {least} THEN {least} WHEN sure > 1.0 - {least} THEN 1.0 - {least}
                 ELSE sure END)) AS log_loss_sum,
    sum((predicted - positive) * (predicted - positive)) AS brier_sum
FROM (
    SELECT model_version, value, predicted, positive,
        CASE positive WHEN 1 THEN predicted ELSE 1.0 - predicted END AS sure,
        CASE WHEN predicted < {smallest} THEN {smallest}
             WHEN predicted > 1.0 - {smallest} THEN 1.0 - {smallest} ELSE predicted END AS near
    FROM (
        SELECT model_version, value, predicted,
            CASE WHEN label = $positive THEN 1 ELSE 0 END AS positive
        FROM ({joined}) j WHERE predicted IS NOT NULL AND label IS NOT NULL
    ) t
) s
GROUP BY model_version, value, CAST(floor({bins} * ln(near / (1.0 - near))) AS BIGINT)

-- name: last_pull
-- What tells whether true values came while a period was measured.
SELECT count(*) AS pulls, max(pulled_at) AS pulled_at FROM trivet_pulls
WHERE deployment = $deployment

-- name: forget_quality
DELETE FROM trivet_quality WHERE deployment = $deployment AND period_start = $period_start

-- name: add_measured
INSERT INTO trivet_measured (deployment, period_start, attempt, measured_at)
VALUES ($deployment, $period_start, $attempt, $measured_at)
ON CONFLICT (deployment, period_start) DO UPDATE SET
    attempt = excluded.attempt, measured_at = excluded.measured_at

-- name: quality
-- Sums of a deployment's periods, of all rows (empty segment) or by the values of a segment.
SELECT period_start, period_end, model_version, value, kind, positive, threshold, row_count,
    error_sum, absolute_sum, squared_sum, actual_sum, right_count, positive_count,
    true_positives, false_positives, log_loss_sum, brier_sum, scores
FROM trivet_quality
WHERE deployment = $deployment AND segment = $segment
  AND period_start >= $since AND period_start < $until
ORDER BY period_start, model_version, value

-- name: quality_by_value.sqlite
-- Sums of a span by the values of a segment, the bins one after the other.
SELECT value, min(kind) AS kind, count(*) OVER () AS known,
    sum(row_count) AS row_count, sum(error_sum) AS error_sum,
    sum(absolute_sum) AS absolute_sum, sum(squared_sum) AS squared_sum,
    sum(actual_sum) AS actual_sum, sum(right_count) AS right_count,
    sum(positive_count) AS positive_count, sum(true_positives) AS true_positives,
    sum(false_positives) AS false_positives, sum(log_loss_sum) AS log_loss_sum,
    sum(brier_sum) AS brier_sum,
    '[' || group_concat(CASE WHEN scores <> '[]' THEN substr(scores, 2, length(scores) - 2) END)
        || ']' AS scores
FROM trivet_quality
WHERE deployment = $deployment AND segment = $segment
  AND period_start >= $since AND period_start < $until
GROUP BY value HAVING count(DISTINCT kind) = 1
ORDER BY sum(row_count) DESC, value LIMIT $limit

-- name: quality_by_value.postgresql
SELECT value, min(kind) AS kind, CAST(count(*) OVER () AS bigint) AS known,
    CAST(sum(row_count) AS bigint) AS row_count, sum(error_sum) AS error_sum,
    sum(absolute_sum) AS absolute_sum, sum(squared_sum) AS squared_sum,
    sum(actual_sum) AS actual_sum, CAST(sum(right_count) AS bigint) AS right_count,
    CAST(sum(positive_count) AS bigint) AS positive_count, CAST(sum(true_positives) AS bigint) AS true_positives,
    CAST(sum(false_positives) AS bigint) AS false_positives, sum(log_loss_sum) AS log_loss_sum,
    sum(brier_sum) AS brier_sum,
    '[' || string_agg(CASE WHEN scores <> '[]' THEN substr(scores, 2, length(scores) - 2) END, ',')
        || ']' AS scores
FROM trivet_quality
WHERE deployment = $deployment AND segment = $segment
  AND period_start >= $since AND period_start < $until
GROUP BY value HAVING count(DISTINCT kind) = 1
ORDER BY sum(row_count) DESC, value LIMIT $limit

-- name: quality_newest
-- The start of the first of the newest periods of a span that have true values.
SELECT min(period_start) AS since FROM (
    SELECT DISTINCT period_start FROM trivet_quality
    WHERE deployment = $deployment AND segment = ''
      AND period_start >= $since AND period_start < $until
    ORDER BY period_start DESC LIMIT $limit
) AS newest

-- name: quality_segments
SELECT DISTINCT segment FROM trivet_quality WHERE deployment = $deployment ORDER BY segment
