-- What the page about rejects asks. Rejects of batch have an attempt, of which the last one at
-- each interval counts; those of a service or a stream have a moment of their own.

-- name: rejects_by_interval
-- Problems by interval, code and field.
SELECT a.interval_start AS at, a.interval_end AS ends, r.code, r.field, count(*) AS n,
    max(a.attempt) AS attempt
FROM trivet_rejects r JOIN trivet_runs a ON a.attempt = r.attempt
WHERE r.deployment = $deployment AND a.interval_start >= $since AND a.interval_start < $until
  AND ($code = '' OR r.code = $code) AND ($field = '' OR r.field = $field)
  AND a.state IN ('succeeded', 'failed') AND NOT EXISTS (
      SELECT 1 FROM trivet_runs n
      WHERE n.deployment = a.deployment AND n.interval_start = a.interval_start
        AND n.attempt > a.attempt AND n.state IN ('succeeded', 'failed'))
GROUP BY a.interval_start, a.interval_end, r.code, r.field
ORDER BY a.interval_start, n DESC

-- name: rejects_by_hour.sqlite
-- Problems by span of so many seconds, code and field.
SELECT CAST(strftime('%s', rejected_at) AS INTEGER) / $width * $width AS at, code, field,
    count(*) AS n
FROM trivet_rejects
WHERE attempt = 0 AND deployment = $deployment
  AND rejected_at >= $since AND rejected_at < $until
  AND ($code = '' OR code = $code) AND ($field = '' OR field = $field)
GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC

-- name: rejects_by_hour.postgresql
SELECT CAST(floor(extract(epoch FROM rejected_at) / $width) * $width AS bigint) AS at, code, field,
    count(*) AS n
FROM trivet_rejects
WHERE attempt = 0 AND deployment = $deployment
  AND rejected_at >= $since AND rejected_at < $until
  AND ($code = '' OR code = $code) AND ($field = '' OR field = $field)
GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC

-- name: rejects_sampled
-- Some rejected rows of batch, of the newest intervals.
SELECT a.interval_start AS at, a.interval_end AS ends, r.attempt, r.row_key, r.field, r.code,
    r.reason
FROM trivet_rejects r JOIN trivet_runs a ON a.attempt = r.attempt
WHERE r.deployment = $deployment AND a.interval_start >= $since AND a.interval_start < $until
  AND ($code = '' OR r.code = $code) AND ($field = '' OR r.field = $field)
  AND a.state IN ('succeeded', 'failed') AND NOT EXISTS (
      SELECT 1 FROM trivet_runs n
      WHERE n.deployment = a.deployment AND n.interval_start = a.interval_start
        AND n.attempt > a.attempt AND n.state IN ('succeeded', 'failed'))
ORDER BY a.interval_start DESC, r.row_key LIMIT $limit

-- name: rejects_logged
-- The newest rejected rows of a service or a stream.
SELECT rejected_at AS at, 0 AS attempt, row_key, field, code, reason, id, topic, partition_number,
    event_offset
FROM trivet_rejects
WHERE attempt = 0 AND deployment = $deployment
  AND rejected_at >= $since AND rejected_at < $until
  AND ($code = '' OR code = $code) AND ($field = '' OR field = $field)
ORDER BY rejected_at DESC LIMIT $limit

-- name: newest_reject
SELECT max(rejected_at) AS newest, min(rejected_at) AS oldest FROM trivet_rejects
WHERE attempt = 0 AND deployment = $deployment

-- name: dead_letters
-- Events that could not be scored and wait to be sent again.
SELECT count(*) AS n, sum(CASE WHEN replayed_at IS NULL THEN 0 ELSE 1 END) AS replayed,
    max(rejected_at) AS newest
FROM trivet_dead_letters WHERE deployment = $deployment
