SELECT sum(CASE WHEN interval_start = newest THEN worth END) AS now,
    sum(CASE WHEN interval_start < newest THEN worth END) AS a_week_before
FROM (
    SELECT interval_start, newest, 12 * monthly_charges * probability_1 AS worth
    FROM churn_daily JOIN (
        SELECT max(interval_start) AS newest, datetime(max(interval_start), '-7 days') AS before
        FROM trivet_published WHERE deployment = 'churn-daily'
    ) ON interval_start IN (newest, before)
    WHERE probability_1 >= 0.15
)
