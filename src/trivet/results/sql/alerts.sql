-- What alerts are judged by, and which of them were told.

-- name: all_deployments
-- Everything that hosts have registered.
SELECT name, kind, model, schedule, timezone, start_at, delay_seconds, view_name, manifest
FROM trivet_deployments ORDER BY name

-- name: newest_published
-- The newest published intervals of a deployment with their counts, the newest first.
SELECT p.interval_start, p.interval_end, r.rows_read, r.rows_rejected
FROM trivet_published p JOIN trivet_runs r ON r.attempt = p.attempt
WHERE p.deployment = $deployment ORDER BY p.interval_start DESC LIMIT $limit

-- name: failed_intervals
-- Intervals without predictions whose last attempt failed or was killed, the oldest first.
SELECT r.interval_start, r.interval_end, r.state, r.error FROM trivet_runs r
WHERE r.deployment = $deployment AND r.state IN ('failed', 'killed')
  AND NOT EXISTS (SELECT 1 FROM trivet_published p
                  WHERE p.deployment = r.deployment AND p.interval_start = r.interval_start)
  AND NOT EXISTS (SELECT 1 FROM trivet_runs n
                  WHERE n.deployment = r.deployment AND n.interval_start = r.interval_start
                    AND n.attempt > r.attempt)
ORDER BY r.interval_start

-- name: succeeded_intervals
-- Intervals that were published once, perhaps pruned since.
SELECT DISTINCT interval_start FROM trivet_runs
WHERE deployment = $deployment AND state = 'succeeded'

-- name: newest_hour_profiled
SELECT max(hour) AS hour FROM trivet_hourly_profiles WHERE deployment = $deployment

-- name: rejected_rows
-- Rows of a service or a stream that were rejected since a moment.
SELECT count(DISTINCT id) AS n FROM trivet_rejects
WHERE deployment = $deployment AND attempt = 0 AND rejected_at >= $since AND rejected_at < $until

-- name: tells_event_time.sqlite
-- Whether a table is there and its rows tell when their event was.
SELECT count(*) AS n FROM pragma_table_info($name) WHERE name = 'event_at'

-- name: tells_event_time.postgresql
SELECT count(*) AS n FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = $name AND column_name = 'event_at'

-- name: newest_event
-- When the newest prediction since a moment came, and its event.
SELECT scored_at, event_at FROM {table} WHERE scored_at >= $since
ORDER BY scored_at DESC LIMIT 1

-- name: newest_measured
-- The start of the newest period that has true values.
SELECT max(period_start) AS period_start FROM trivet_quality
WHERE deployment = $deployment AND segment = ''

-- name: open_alerts
-- Alerts that go on.
SELECT alert, deployment, kind, subject, message, value, threshold, raised_at, sent_at
FROM trivet_alerts WHERE resolved_at IS NULL ORDER BY alert

-- name: past_alerts
-- The newest alerts, also those that are over.
SELECT alert, deployment, kind, subject, message, value, threshold, raised_at, resolved_at, sent_at,
    resolution_sent_at, error
FROM trivet_alerts ORDER BY alert DESC LIMIT $limit

-- name: lock_alerts.sqlite
-- One process at a time compares what is wrong with what was; SQLite's write lock is enough.
SELECT 1 AS locked

-- name: lock_alerts.postgresql
SELECT CAST(pg_advisory_xact_lock(7284636) AS text) AS locked

-- name: raise_alert
INSERT INTO trivet_alerts (deployment, kind, subject, message, value, threshold, raised_at)
VALUES ($deployment, $kind, $subject, $message, $value, $threshold, $raised_at)

-- name: update_alert
-- What is known of an alert by now.
UPDATE trivet_alerts SET message = $message, value = $value, threshold = $threshold
WHERE alert = $alert

-- name: resolve_alert
UPDATE trivet_alerts SET resolved_at = $resolved_at WHERE alert = $alert

-- name: unsent_alerts
-- Alerts that nobody was told of yet, and those that are over of which nobody was told; what was
-- over before it was told is not told at all.
SELECT alert, deployment, kind, subject, message, value, threshold, raised_at, resolved_at, failures
FROM trivet_alerts
WHERE claimed_until < $clock
  AND ((sent_at IS NULL AND resolved_at IS NULL)
       OR (sent_at IS NOT NULL AND resolved_at IS NOT NULL AND resolution_sent_at IS NULL))
ORDER BY alert

-- name: claim_alert
-- Take an alert to tell of it; no row comes back if another process has.
UPDATE trivet_alerts SET claimed_until = $until
WHERE alert = $alert AND claimed_until < $clock
  AND ((sent_at IS NULL AND resolved_at IS NULL)
       OR (sent_at IS NOT NULL AND resolved_at IS NOT NULL AND resolution_sent_at IS NULL))
RETURNING alert

-- name: alert_sent
UPDATE trivet_alerts SET sent_at = $now, claimed_until = 0, failures = 0, error = NULL
WHERE alert = $alert

-- name: resolution_sent
UPDATE trivet_alerts SET resolution_sent_at = $now, claimed_until = 0, failures = 0, error = NULL
WHERE alert = $alert

-- name: alert_unsent
UPDATE trivet_alerts SET claimed_until = $until, failures = failures + 1, error = $error
WHERE alert = $alert
