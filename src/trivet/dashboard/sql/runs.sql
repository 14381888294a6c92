-- What the pages about runs ask.

-- name: run
-- One attempt with everything that is known of it.
SELECT r.*, CASE WHEN p.attempt IS NULL THEN 0 ELSE 1 END AS is_published
FROM trivet_runs r LEFT JOIN trivet_published p ON p.attempt = r.attempt
WHERE r.attempt = $attempt

-- name: attempts_at
-- Every attempt at an interval, the newest first.
SELECT r.attempt, r.number, r.state, r.cause, r.model_version, r.started_at, r.ended_at,
    r.rows_scored, r.rows_rejected, r.error,
    CASE WHEN p.attempt IS NULL THEN 0 ELSE 1 END AS is_published
FROM trivet_runs r LEFT JOIN trivet_published p ON p.attempt = r.attempt
WHERE r.deployment = $deployment AND r.interval_start = $interval_start
ORDER BY r.attempt DESC LIMIT 50

-- name: rejects_of_run
SELECT row_key, field, code, reason FROM trivet_rejects
WHERE attempt = $attempt AND deployment = $deployment ORDER BY field, code, row_key LIMIT $limit

-- name: reject_counts_of_run
SELECT code, field, count(*) AS n FROM trivet_rejects
WHERE attempt = $attempt AND deployment = $deployment
GROUP BY code, field ORDER BY n DESC, code, field LIMIT 50
