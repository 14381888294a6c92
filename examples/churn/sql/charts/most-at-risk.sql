SELECT customer_id AS customer, contract, monthly_charges AS "$ a month",
    round(probability_1, 2) AS chance,
    reason_1 || printf(' %+.2f', contribution_1) AS "first reason",
    reason_2 || printf(' %+.2f', contribution_2) AS "second",
    reason_3 || printf(' %+.2f', contribution_3) AS "third"
FROM churn_daily
WHERE interval_start = (
    SELECT max(interval_start) FROM trivet_published WHERE deployment = 'churn-daily')
ORDER BY probability_1 DESC LIMIT 12
