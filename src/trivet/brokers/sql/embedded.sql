-- Every statement on the embedded broker's file; values are bound.

-- name: topics
-- All topics.
SELECT name, partitions FROM topics WHERE name NOT LIKE '/%' ORDER BY name

-- name: logs
-- The partitions of a topic.
SELECT l.id, l.partition FROM logs l JOIN topics t ON t.id = l.topic
WHERE t.name = :topic ORDER BY l.partition

-- name: add_topic
-- Create a topic; no row comes back if it is there.
INSERT INTO topics (name, partitions) VALUES (:topic, :partitions)
ON CONFLICT DO NOTHING RETURNING id

-- name: add_log
INSERT INTO logs (topic, partition) VALUES (:topic, :partition)

-- name: bury_topic
-- Take a topic's name away. Its row and those of its logs stay, lest a log's number be given again.
UPDATE topics SET name = '/' || id WHERE name = :topic RETURNING id

-- name: bounds
-- The oldest offset and the next one, of each partition of a topic.
SELECT l.partition, l.first_offset, l.next_offset
FROM logs l JOIN topics t ON t.id = l.topic WHERE t.name = :topic ORDER BY l.partition

-- name: ends
-- The next offset of each partition of a topic, by its log.
SELECT id, next_offset FROM logs WHERE topic = (SELECT topic FROM logs WHERE id = :log)

-- name: log_state
-- Where a log begins and ends; no row if its topic was deleted.
SELECT l.first_offset, l.next_offset, l.last_time FROM logs l JOIN topics t ON t.id = l.topic
WHERE l.id = :log AND t.name NOT LIKE '/%'

-- name: add_chunk
INSERT INTO chunks (id, events, time, body) VALUES (?, ?, ?, ?)

-- name: advance
-- Account for what was appended.
UPDATE logs SET next_offset = :next_offset, last_time = :time, bytes = bytes + :bytes
WHERE id = :log

-- name: chunks
-- The chunks from the one that contains an offset on.
SELECT id, time, body FROM chunks
WHERE id >= coalesce((SELECT max(id) FROM chunks WHERE id BETWEEN :low AND :start), :start)
    AND id < :high
ORDER BY id

-- name: chunk_after
-- The first chunk of a log from an id on.
SELECT id, events, time FROM chunks WHERE id >= :start AND id < :high ORDER BY id LIMIT 1

-- name: oldest
-- The oldest chunks of a log.
SELECT id, events, time, length(body) AS bytes FROM chunks
WHERE id >= :low AND id < :high ORDER BY id LIMIT :most

-- name: all_logs
-- Every log: how many bytes it holds, and whether its topic was deleted.
SELECT l.id, l.bytes, t.name LIKE '/%' FROM logs l JOIN topics t ON t.id = l.topic

-- name: drop_chunks
DELETE FROM chunks WHERE id >= :low AND id < :high

-- name: forget
-- Account for what fell out of retention.
UPDATE logs SET first_offset = :first_offset, bytes = bytes - :bytes WHERE id = :log

-- name: committed
-- The offsets that a group committed, by partition of a topic.
SELECT l.partition, c.next_offset
FROM committed c JOIN logs l ON l.id = c.log JOIN topics t ON t.id = l.topic
WHERE c.group_name = :group AND t.name = :topic

-- name: commit_offset
-- Commit an offset for the member that has the partition; no row comes back if it has not.
INSERT INTO committed (group_name, log, next_offset)
SELECT group_name, log, :next_offset FROM claims
WHERE group_name = :group AND log = :log AND member = :member
ON CONFLICT (group_name, log) DO UPDATE SET next_offset = excluded.next_offset
RETURNING log

-- name: generation
SELECT generation FROM generations
WHERE group_name = :group AND topic = (SELECT id FROM topics WHERE name = :topic)

-- name: next_generation
-- Tell the other members of a group to look at its members and claims.
INSERT INTO generations (group_name, topic, generation)
SELECT :group, id, 1 FROM topics WHERE name = :topic
ON CONFLICT (group_name, topic) DO UPDATE SET generation = generation + 1

-- name: members
SELECT id, owner, lease_until FROM members
WHERE group_name = :group AND topic = (SELECT id FROM topics WHERE name = :topic)

-- name: join
INSERT INTO members (group_name, topic, owner, instance, lease_until)
SELECT :group, id, :owner, :instance, :lease_until FROM topics WHERE name = :topic
RETURNING id

-- name: take_over
-- Give a member the partitions of who had its name before.
UPDATE claims SET member = :member
WHERE member IN (
    SELECT id FROM members WHERE group_name = :group AND instance = :instance AND id <> :member
        AND topic = (SELECT id FROM topics WHERE name = :topic)
)

-- name: leave_instance
DELETE FROM members WHERE group_name = :group AND instance = :instance AND id <> :member
    AND topic = (SELECT id FROM topics WHERE name = :topic)

-- name: beat
-- Prolong a lease; no row comes back if the member was taken for dead.
UPDATE members SET lease_until = :lease_until WHERE id = :member RETURNING id

-- name: leave
DELETE FROM members WHERE id = :member

-- name: release_all
-- Free every partition that a member has.
DELETE FROM claims WHERE member = :member

-- name: claims
-- Which member has which partition of a topic.
SELECT l.partition, c.member
FROM claims c JOIN logs l ON l.id = c.log JOIN topics t ON t.id = l.topic
WHERE c.group_name = :group AND t.name = :topic ORDER BY l.partition

-- name: claim
INSERT INTO claims (group_name, log, member) VALUES (:group, :log, :member)

-- name: release
DELETE FROM claims WHERE group_name = :group AND log = :log AND member = :member RETURNING log

-- name: delete_offsets_of_topic
DELETE FROM committed WHERE log IN (SELECT id FROM logs WHERE topic = :topic)

-- name: delete_claims_of_topic
DELETE FROM claims WHERE log IN (SELECT id FROM logs WHERE topic = :topic)

-- name: delete_members_of_topic
DELETE FROM members WHERE topic = :topic

-- name: delete_generations_of_topic
DELETE FROM generations WHERE topic = :topic

-- name: group_members
-- The members of a group, of all topics.
SELECT owner, lease_until FROM members WHERE group_name = :group

-- name: delete_offsets_of_group
DELETE FROM committed WHERE group_name = :group

-- name: delete_claims_of_group
DELETE FROM claims WHERE group_name = :group

-- name: delete_members_of_group
DELETE FROM members WHERE group_name = :group

-- name: delete_generations_of_group
DELETE FROM generations WHERE group_name = :group

-- name: open_transaction
-- Shut out the earlier appenders of a name.
INSERT INTO transactions (name, epoch) VALUES (:name, 1)
ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch

-- name: transaction_epoch
SELECT epoch FROM transactions WHERE name = :name
