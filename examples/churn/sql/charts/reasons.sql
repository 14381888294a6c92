SELECT reason, count(*) AS customers
FROM (
    SELECT reason_1 AS reason, contribution_1 AS added, interval_start, probability_1 FROM churn_daily
    UNION ALL SELECT reason_2, contribution_2, interval_start, probability_1 FROM churn_daily
    UNION ALL SELECT reason_3, contribution_3, interval_start, probability_1 FROM churn_daily
)
WHERE interval_start = (
    SELECT max(interval_start) FROM trivet_published WHERE deployment = 'churn-daily')
  AND probability_1 >= 0.15 AND added > 0
GROUP BY reason ORDER BY customers DESC
