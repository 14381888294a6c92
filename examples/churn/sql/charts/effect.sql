-- Who was treated and who was held out, and what became of them within thirty days.
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
-- First by how much fewer of the treated left, then both groups. What was gained is the margin of two
-- years of those saved, less two months at 20 % off for those who accept and a mail to everybody.
SELECT 'difference' AS who, uplift AS share, uplift - margin AS low, uplift + margin AS high,
    treated, control, round(uplift * treated) AS saved,
    uplift * 24 * 0.4 * charges - 0.65 * 2 * 0.2 * charges - 0.5 * treated AS gained,
    printf('%.1f points (%.1f to %.1f)', 100 * uplift, 100 * (uplift - margin), 100 * (uplift + margin)) AS told
FROM effect
UNION ALL
SELECT CASE g.assignment WHEN 'control' THEN 'held out' ELSE g.assignment END, g.share,
    g.share - 1.96 * sqrt(g.share * (1 - g.share) / g.people),
    g.share + 1.96 * sqrt(g.share * (1 - g.share) / g.people), e.treated, e.control, NULL, NULL, NULL
FROM groups AS g, effect AS e
ORDER BY who
