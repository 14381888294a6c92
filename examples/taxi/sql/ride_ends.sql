-- How the rides ended that ended of late; one that was broken off says nothing.
SELECT ride_id, true_minutes, true_fare, true_total
FROM rides
WHERE ended_at >= strftime('%Y-%m-%dT%H:%M:%S', $since)
  AND true_minutes BETWEEN 1 AND 60
