-- Who of those has left within thirty days after the day.
SELECT customer_id,
    CASE WHEN left_on < date($interval_end, '+30 days') THEN 1 ELSE 0 END AS left_within_30
FROM customers
WHERE joined_on < $interval_end AND (left_on IS NULL OR left_on >= $interval_end)
