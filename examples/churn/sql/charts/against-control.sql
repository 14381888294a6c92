-- Who was treated and who was held out, thirty days later.
WITH outcomes AS (
    SELECT s.assignment, t.number AS gone, json_extract(s.selected, '$.monthly_charges') AS charges
    FROM trivet_assignments AS s
    JOIN trivet_actuals AS t
        ON t.deployment = 'churn-daily' AND t.interval_start = s.interval_start
        AND t.row_key = CAST(json_extract(s.row_key, '$.customer_id') AS TEXT)
    WHERE s.action = 'retention-offer' AND s.assignment IN ('treated', 'control')
), groups AS (
    SELECT assignment, count(*) AS people, sum(gone) AS gone, avg(gone) AS share,
        sum(charges) AS charges
    FROM outcomes GROUP BY assignment
), effect AS (
    SELECT t.people AS treated, c.people AS control, t.share AS treated_share,
        c.share AS control_share, c.share - t.share AS uplift, t.charges AS charges,
        1.96 * sqrt(t.share * (1 - t.share) / t.people + c.share * (1 - c.share) / c.people) AS margin
    FROM groups AS t, groups AS c WHERE t.assignment = 'treated' AND c.assignment = 'control'
)
SELECT assignment, people, share,
    share - 1.96 * sqrt(share * (1 - share) / people) AS low,
    share + 1.96 * sqrt(share * (1 - share) / people) AS high
FROM groups
UNION ALL
SELECT 'difference', treated + control, uplift, uplift - margin, uplift + margin FROM effect
