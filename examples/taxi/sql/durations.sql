-- How long the rides took that began in an interval; meters that ran for an hour were forgotten.
SELECT trip_id, (unixepoch(dropoff_at) - unixepoch(pickup_at)) / 60.0 AS minutes
FROM trips
WHERE pickup_at >= $interval_start AND pickup_at < $interval_end
  AND unixepoch(dropoff_at) - unixepoch(pickup_at) BETWEEN 60 AND 3600
