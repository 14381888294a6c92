SELECT customer_id AS customer, round(probability_1, 2) AS chance,
    printf('%s %+.1f, %s %+.1f, %s %+.1f', reason_1, contribution_1, reason_2, contribution_2,
           reason_3, contribution_3) AS why
FROM churn_daily
WHERE interval_start = (
    SELECT max(interval_start) FROM trivet_published WHERE deployment = 'churn-daily')
ORDER BY probability_1 DESC LIMIT 12
