-- Of those nobody acted upon: an offer is meant to make the prediction wrong.
SELECT avg(p.probability_1) AS predicted, avg(t.number) AS came_true, count(*) AS customers
FROM churn_daily AS p
JOIN trivet_actuals AS t
    ON t.deployment = 'churn-daily' AND t.interval_start = p.interval_start
    AND t.row_key = CAST(p.customer_id AS TEXT)
WHERE p.discount_since = '' AND NOT EXISTS (
    SELECT 1 FROM trivet_deliveries AS d
    WHERE d.action = 'retention-offer' AND d.interval_start = p.interval_start
      AND d.row_key = json_object('customer_id', p.customer_id))
GROUP BY CASE WHEN p.probability_1 < 0.05 THEN CAST(p.probability_1 * 100 AS INTEGER)
    WHEN p.probability_1 < 0.3 THEN 5 + CAST(p.probability_1 * 20 AS INTEGER)
    ELSE 11 + CAST(p.probability_1 * 10 AS INTEGER) END
HAVING count(*) >= 30
ORDER BY predicted
