-- What an offer is worth: the margin of two years (40 % of the charges), times the chance that the
-- customer leaves, times the share of those that an offer keeps (40 %, an assumption: the campaign
-- measures it), less its cost: two months at 20 % off for the two in three who accept, and a mail.
SELECT * FROM (
    SELECT customer_id, probability_1 AS chance_to_leave, monthly_charges, reason_1,
        round(24 * 0.4 * monthly_charges * probability_1 * 0.4
              - 0.65 * 2 * 0.2 * monthly_charges - 0.5, 2) AS worth
    FROM churn_daily WHERE interval_start = $interval_start
)
WHERE worth > 0 ORDER BY worth DESC, customer_id
