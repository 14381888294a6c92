-- What is known when a ride is requested: never the metered distance, which only its end tells.
SELECT trip_id, pickup_at, pickup_zone, dropoff_zone
FROM trips
WHERE pickup_at >= $interval_start AND pickup_at < $interval_end
ORDER BY trip_id
