SELECT customer_id AS customer, printf('%.0f %%', 100 * probability_1) AS chance, reason_1 AS "first reason",
    reason_2 AS second
FROM churn_daily
WHERE interval_start = (
    SELECT max(interval_start) FROM trivet_published WHERE deployment = 'churn-daily')
ORDER BY probability_1 DESC LIMIT 12
