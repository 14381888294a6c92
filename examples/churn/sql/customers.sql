-- Every customer who is there when the day ends, as far as was known by then.
SELECT
    c.customer_id,
    c.monthly_charges,
    CASE c.contract WHEN 'Two year' THEN 24 WHEN 'One year' THEN 12 ELSE 1 END AS contract_months,
    c.internet = 'Fiber optic' AS fiber,
    c.payment = 'Electronic check' AS pays_by_check,
    c.tech_support,
    c.paperless,
    c.senior,
    c.partner OR c.dependents AS family,
    (julianday($interval_end) - julianday(c.joined_on)) / 30.4 AS tenure_months,
    coalesce(u.gb_28, 0.0) / 4 AS gb_a_week,
    coalesce(u.gb_7, 0.0) / max(coalesce(u.gb_28, 0.0) / 4, 0.1) AS gb_trend,
    coalesce(k.calls_14, 0) AS calls_14,
    coalesce(k.calls_60, 0) AS calls_60,
    c.contract,
    coalesce(o.discount_since, '') AS discount_since
FROM customers AS c
LEFT JOIN (
    SELECT customer_id, sum(gb) AS gb_28,
        sum(CASE WHEN day >= date($interval_end, '-7 days') THEN gb ELSE 0.0 END) AS gb_7
    FROM usage WHERE day >= date($interval_end, '-28 days') AND day < $interval_end
    GROUP BY customer_id
) AS u USING (customer_id)
LEFT JOIN (
    SELECT customer_id, count(*) AS calls_60,
        sum(called_on >= date($interval_end, '-14 days')) AS calls_14
    FROM calls WHERE called_on >= date($interval_end, '-60 days') AND called_on < $interval_end
    GROUP BY customer_id
) AS k USING (customer_id)
LEFT JOIN (
    SELECT customer_id, max(received_on) AS discount_since
    FROM offers WHERE accepted AND received_on < $interval_end GROUP BY customer_id
) AS o USING (customer_id)
WHERE c.joined_on < $interval_end AND (c.left_on IS NULL OR c.left_on >= $interval_end)
ORDER BY c.customer_id
