-- One day in seven, of customers to whom no offer was sent that day and who have no discount: an
-- offer is meant to make the prediction wrong.
WITH days AS (
    SELECT interval_start FROM trivet_published
    WHERE deployment = 'churn-daily' AND strftime('%w', interval_start) = '1'
), treated AS (
    SELECT interval_start || row_key AS one FROM trivet_assignments
    WHERE action = 'retention-offer' AND assignment = 'treated'
), scored AS (
    SELECT p.probability_1 AS chance, t.number AS gone
    FROM days
    JOIN churn_daily AS p ON p.interval_start = days.interval_start
    JOIN trivet_actuals AS t
        ON t.deployment = 'churn-daily' AND t.interval_start = days.interval_start
        AND t.row_key = CAST(p.customer_id AS TEXT)
    WHERE p.discount_since = ''
      AND p.interval_start || json_object('customer_id', p.customer_id) NOT IN (
          SELECT one FROM treated)
)
SELECT avg(chance) AS predicted, avg(gone) AS came_true, count(*) AS customers
FROM scored
GROUP BY CASE WHEN chance < 0.05 THEN CAST(chance * 100 AS INTEGER)
    WHEN chance < 0.3 THEN 5 + CAST(chance * 20 AS INTEGER)
    ELSE 12 + CAST(chance * 10 AS INTEGER) END
HAVING count(*) >= 30
ORDER BY predicted
