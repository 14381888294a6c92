-- Customers with a chance of 15 % or more to leave within thirty days, on the newest day and a week
-- before; and what is at stake: their bills of a year, times the chance that they leave.
SELECT
    sum(interval_start = newest) AS customers,
    nullif(sum(interval_start < newest), 0) AS customers_before,
    sum((interval_start = newest) * stake) AS revenue,
    nullif(sum((interval_start < newest) * stake), 0) AS revenue_before
FROM (
    SELECT interval_start, newest, 12 * monthly_charges * probability_1 AS stake
    FROM churn_daily JOIN (
        SELECT max(interval_start) AS newest, datetime(max(interval_start), '-7 days') AS before
        FROM trivet_published WHERE deployment = 'churn-daily'
    ) ON interval_start IN (newest, before)
    WHERE probability_1 >= 0.15
)
