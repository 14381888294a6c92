-- The tips of the rides that ended of late: of cash, nobody knows.
SELECT ride_id, true_tip
FROM rides
WHERE ended_at >= strftime('%Y-%m-%dT%H:%M:%S', $since)
  AND payment = 'card' AND true_minutes BETWEEN 1 AND 60
