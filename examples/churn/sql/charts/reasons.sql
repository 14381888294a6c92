SELECT reason_1 AS reason, count(*) AS customers
FROM churn_daily
WHERE interval_start = (
    SELECT max(interval_start) FROM trivet_published WHERE deployment = 'churn-daily')
  AND probability_1 >= 0.15 AND contribution_1 > 0
GROUP BY reason_1 ORDER BY customers DESC
