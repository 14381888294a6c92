-- Statements of streams: how far each has come, and the events that it could not score.

-- name: offsets
SELECT partition_number, next_offset FROM trivet_offsets
WHERE deployment = $deployment AND topic = $topic

-- name: place_offset
-- Where a stream begins in a partition that it has no offset of yet; the first one to say it counts.
INSERT INTO trivet_offsets (deployment, topic, partition_number, next_offset, moved_at)
VALUES ($deployment, $topic, CAST($partition AS INTEGER), CAST($next AS BIGINT), $now)
ON CONFLICT (deployment, topic, partition_number) DO NOTHING

-- name: advance_offset
-- Go on to the next offset; no row is changed if another worker has been here.
UPDATE trivet_offsets SET next_offset = CAST($next AS BIGINT), moved_at = $now
WHERE deployment = $deployment AND topic = $topic
  AND partition_number = CAST($partition AS INTEGER) AND next_offset = CAST($before AS BIGINT)

-- name: skip_offset
-- Go on behind events that are no longer there.
UPDATE trivet_offsets SET next_offset = CAST($next AS BIGINT), moved_at = $now
WHERE deployment = $deployment AND topic = $topic
  AND partition_number = CAST($partition AS INTEGER) AND next_offset < CAST($next AS BIGINT)

-- name: consumed
-- Tell how a partition is; what another consumer told later stays.
INSERT INTO trivet_consumers (deployment, topic, partition_number, waiting, moved_at, seen_at)
VALUES ($deployment, $topic, CAST($partition AS INTEGER), CAST($waiting AS BIGINT), $moved_at,
    $seen_at)
ON CONFLICT (deployment, topic, partition_number) DO UPDATE SET
    waiting = excluded.waiting, moved_at = excluded.moved_at, seen_at = excluded.seen_at
WHERE trivet_consumers.seen_at <= excluded.seen_at

-- name: consumers
-- How the partitions of the topic that a stream consumed last are.
SELECT topic, partition_number, waiting, moved_at, seen_at FROM trivet_consumers
WHERE deployment = $deployment AND topic = (
    SELECT topic FROM trivet_consumers WHERE deployment = $deployment
    ORDER BY seen_at DESC LIMIT 1)
ORDER BY partition_number

-- name: known_dead_letters
-- Which events from an offset on are dead letters already.
SELECT event_offset FROM trivet_dead_letters
WHERE deployment = $deployment AND topic = $topic
  AND partition_number = CAST($partition AS INTEGER)
  AND event_offset BETWEEN CAST($first AS BIGINT) AND CAST($last AS BIGINT)

-- name: dead_letters
-- Dead letters with the first of their problems, the newest first.
SELECT d.topic, d.partition_number, d.event_offset, d.id, d.source, d.event_bytes, d.rejected_at,
    d.replayed_at, r.field, r.code, r.reason, r.row_key
FROM trivet_dead_letters d
JOIN trivet_rejects r ON r.deployment = d.deployment AND r.topic = d.topic
    AND r.partition_number = d.partition_number AND r.event_offset = d.event_offset
WHERE d.deployment = $deployment
  AND ($code = '' OR r.code = $code)
  AND (CAST($replayed AS INTEGER) = 1 OR d.replayed_at IS NULL)
ORDER BY d.rejected_at DESC, d.topic, d.partition_number, d.event_offset DESC, r.field
LIMIT CAST($limit AS BIGINT)

-- name: dead_letter
-- One dead letter as it came.
SELECT topic, partition_number, event_offset, id, source, event_key, event_value, event_bytes,
    event_headers, rejected_at, replayed_at
FROM trivet_dead_letters
WHERE deployment = $deployment AND topic = $topic
  AND partition_number = CAST($partition AS INTEGER) AND event_offset = CAST($offset AS BIGINT)

-- name: dead_letter_problems
SELECT field, code, reason, row_key FROM trivet_rejects
WHERE deployment = $deployment AND topic = $topic
  AND partition_number = CAST($partition AS INTEGER) AND event_offset = CAST($offset AS BIGINT)
ORDER BY field, code

-- name: replayed
UPDATE trivet_dead_letters SET replayed_at = $now
WHERE deployment = $deployment AND topic = $topic
  AND partition_number = CAST($partition AS INTEGER) AND event_offset = CAST($offset AS BIGINT)
