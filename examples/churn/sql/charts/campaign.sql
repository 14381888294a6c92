SELECT date(a.interval_start) AS day,
    sum(s.assignment = 'treated') AS treated, sum(s.assignment = 'control') AS "held out"
FROM trivet_action_runs AS a
LEFT JOIN trivet_assignments AS s USING (action, interval_start)
WHERE a.action = 'retention-offer'
GROUP BY a.interval_start ORDER BY a.interval_start
