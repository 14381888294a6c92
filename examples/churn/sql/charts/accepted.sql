-- A discount begins with an offer that was accepted; the day's query carries it along.
SELECT count(*) AS accepted FROM (
    SELECT DISTINCT p.customer_id, p.discount_since
    FROM churn_daily AS p
    JOIN trivet_published AS u USING (interval_start)
    WHERE u.deployment = 'churn-daily' AND p.discount_since <> ''
)
