-- Statements on the tables of actions; see queries.sql for the form.

-- name: register_action
-- Insert or refresh an action.
INSERT INTO trivet_actions (
    name, deployment, channel, key_columns, max_treated, cooldown_seconds, control, registered_at
) VALUES (
    $name, $deployment, $channel, $key_columns, NULLIF($max_treated, 0), $cooldown_seconds,
    $control, $registered_at
)
ON CONFLICT (name) DO UPDATE SET
    deployment = excluded.deployment, channel = excluded.channel,
    key_columns = excluded.key_columns, max_treated = excluded.max_treated,
    cooldown_seconds = excluded.cooldown_seconds, control = excluded.control,
    registered_at = excluded.registered_at

-- name: lock_action.sqlite
-- One decision of an action after the other; SQLite's write lock is enough.
SELECT name FROM trivet_actions WHERE name = $action

-- name: lock_action.postgresql
SELECT name FROM trivet_actions WHERE name = $action FOR UPDATE

-- name: undecided
-- Published intervals that the action has not looked at yet, the oldest first.
SELECT p.interval_start, p.interval_end, p.attempt, r.cause
FROM trivet_published p JOIN trivet_runs r ON r.attempt = p.attempt
LEFT JOIN trivet_action_runs a ON a.action = $action AND a.interval_start = p.interval_start
WHERE p.deployment = $deployment AND p.interval_end > $since AND a.action IS NULL
ORDER BY p.interval_start

-- name: published_attempt
SELECT attempt FROM trivet_published
WHERE deployment = $deployment AND interval_start = $interval_start

-- name: decided
-- Whether an action has looked at an interval.
SELECT attempt FROM trivet_action_runs WHERE action = $action AND interval_start = $interval_start

-- name: decide
-- One decision an interval, for ever: a second one is refused by the key.
INSERT INTO trivet_action_runs (
    action, interval_start, interval_end, attempt, cause, decided_at
) VALUES ($action, $interval_start, $interval_end, $attempt, $cause, $decided_at)

-- name: cooling
-- Keys that were chosen on other intervals, to be treated or held out, too near to this one or to
-- this moment.
SELECT DISTINCT s.row_key
FROM trivet_assignments s JOIN trivet_action_runs a
    ON a.action = s.action AND a.interval_start = s.interval_start
WHERE s.action = $action AND s.assignment IN ('treated', 'control')
  AND a.interval_start <> $interval_start
  AND (a.decided_at > $since
       OR (a.interval_start > $interval_since AND a.interval_start < $interval_until))

-- name: claim_deliveries.sqlite
-- Take up some deliveries that are due, the oldest and best first.
UPDATE trivet_deliveries SET
    state = 'sending', owner = $owner, lease_until = $lease_until, tries = tries + 1
WHERE id IN (
    SELECT id FROM trivet_deliveries
    WHERE action = $action AND state = 'pending' AND due_at <= $clock
    ORDER BY due_at, interval_start, place LIMIT $limit)
RETURNING id, interval_start, row_key, place, tries

-- name: claim_deliveries.postgresql
UPDATE trivet_deliveries SET
    state = 'sending', owner = $owner, lease_until = $lease_until, tries = tries + 1
WHERE id = ANY (ARRAY(
    SELECT id FROM trivet_deliveries
    WHERE action = $action AND state = 'pending' AND due_at <= $clock
    ORDER BY due_at, interval_start, place LIMIT $limit FOR UPDATE SKIP LOCKED))
RETURNING id, interval_start, row_key, place, tries

-- name: selected_rows
-- What was selected of the deliveries that an owner has taken up.
SELECT d.id, s.selected, a.interval_end
FROM trivet_deliveries d
JOIN trivet_assignments s
    ON s.action = d.action AND s.interval_start = d.interval_start AND s.row_key = d.row_key
JOIN trivet_action_runs a ON a.action = d.action AND a.interval_start = d.interval_start
WHERE d.action = $action AND d.state = 'sending' AND d.owner = $owner

-- name: senders
-- Who says to be sending.
SELECT owner, max(lease_until) AS lease_until FROM trivet_deliveries
WHERE action = $action AND state = 'sending' GROUP BY owner

-- name: release_deliveries
-- Give back what an owner took up and has not ended, if its lease ran out before a moment.
UPDATE trivet_deliveries SET
    state = 'pending', owner = '', due_at = $due_at, tries = tries - 1
WHERE action = $action AND state = 'sending' AND owner = $owner AND lease_until < $before
RETURNING id

-- name: prolong_deliveries
UPDATE trivet_deliveries SET lease_until = $lease_until
WHERE action = $action AND state = 'sending' AND owner = $owner

-- name: holds_delivery
-- Whether a delivery is still this owner's to send.
SELECT id FROM trivet_deliveries WHERE id = $id AND state = 'sending' AND owner = $owner

-- name: end_delivery
-- Write down how a try ended; no row comes back if another process has taken the delivery over.
UPDATE trivet_deliveries SET
    state = $state, reason = $reason, due_at = $due_at, owner = '', changed_at = $changed_at
WHERE id = $id AND state = 'sending' AND owner = $owner
RETURNING id

-- name: next_delivery
-- When the next delivery is due, by the database's clock.
SELECT min(due_at) AS due_at FROM trivet_deliveries WHERE action = $action AND state = 'pending'

-- name: approve_deliveries
UPDATE trivet_deliveries SET state = 'pending', changed_at = $changed_at
WHERE action = $action AND state = 'proposed' AND interval_start >= $since AND interval_start < $until
RETURNING id

-- name: approve_runs
UPDATE trivet_action_runs SET approved_at = $approved_at
WHERE action = $action AND approved_at IS NULL AND interval_start >= $since
  AND interval_start < $until

-- name: action_history
-- The newest decisions of an action, with how many were assigned to what.
SELECT a.interval_start, a.interval_end, a.attempt, a.cause, a.decided_at, a.approved_at,
    CAST(COALESCE(s.treated, 0) AS BIGINT) AS treated,
    CAST(COALESCE(s.control, 0) AS BIGINT) AS control,
    CAST(COALESCE(s.over_limit, 0) AS BIGINT) AS over_limit,
    CAST(COALESCE(s.cooldown, 0) AS BIGINT) AS cooldown,
    CAST(COALESCE(s.suppressed, 0) AS BIGINT) AS suppressed,
    CASE WHEN s.action IS NULL AND p.attempt IS NULL THEN 1 ELSE 0 END AS pruned
FROM trivet_action_runs a LEFT JOIN (
    SELECT action, interval_start,
        sum(CASE WHEN assignment = 'treated' THEN 1 ELSE 0 END) AS treated,
        sum(CASE WHEN assignment = 'control' THEN 1 ELSE 0 END) AS control,
        sum(CASE WHEN assignment = 'over_limit' THEN 1 ELSE 0 END) AS over_limit,
        sum(CASE WHEN assignment = 'cooldown' THEN 1 ELSE 0 END) AS cooldown,
        sum(CASE WHEN assignment = 'suppressed' THEN 1 ELSE 0 END) AS suppressed
    FROM trivet_assignments WHERE action = $action GROUP BY action, interval_start
) s ON s.action = a.action AND s.interval_start = a.interval_start
LEFT JOIN trivet_actions t ON t.name = a.action
LEFT JOIN trivet_published p
    ON p.deployment = t.deployment AND p.interval_start = a.interval_start
WHERE a.action = $action
ORDER BY a.interval_start DESC LIMIT $limit

-- name: delivery_states
-- How many deliveries of each interval are in which state, for what reason.
SELECT interval_start, state, reason, count(*) AS n FROM trivet_deliveries
WHERE action = $action AND interval_start >= $since
GROUP BY interval_start, state, reason ORDER BY interval_start DESC, state, reason

-- name: actions_after
-- The actions that follow a deployment, and how long each still needs to know whom it chose.
SELECT name, cooldown_seconds FROM trivet_actions WHERE deployment = $deployment ORDER BY name

-- name: prunable_decisions
-- Decisions on intervals that ended before a moment, of which nothing waits and no cooldown counts.
SELECT r.interval_start FROM trivet_action_runs r
WHERE r.action = $action AND r.interval_end <= $before
  AND r.interval_end <= $cooled AND r.decided_at <= $cooled
  AND EXISTS (
      SELECT 1 FROM trivet_assignments s
      WHERE s.action = r.action AND s.interval_start = r.interval_start)
  AND NOT EXISTS (
      SELECT 1 FROM trivet_deliveries d
      WHERE d.action = r.action AND d.state IN ('proposed', 'pending', 'sending')
        AND d.interval_start = r.interval_start)
ORDER BY r.interval_start

-- name: prune_deliveries
DELETE FROM trivet_deliveries WHERE id IN (
    SELECT id FROM trivet_deliveries
    WHERE action = $action AND interval_start = $interval_start LIMIT $limit)
RETURNING id

-- name: prune_assignments
DELETE FROM trivet_assignments
WHERE action = $action AND interval_start = $interval_start AND row_key IN (
    SELECT row_key FROM trivet_assignments
    WHERE action = $action AND interval_start = $interval_start LIMIT $limit)
RETURNING row_key
