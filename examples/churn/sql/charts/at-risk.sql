SELECT sum(interval_start = newest) AS now, sum(interval_start < newest) AS a_week_before
FROM churn_daily JOIN (
    SELECT max(interval_start) AS newest, datetime(max(interval_start), '-7 days') AS before
    FROM trivet_published WHERE deployment = 'churn-daily'
) ON interval_start IN (newest, before)
WHERE probability_1 >= 0.15
