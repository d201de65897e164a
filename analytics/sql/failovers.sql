-- Finished events that another tool took than the one tried first; by day of receipt.
SELECT d.day, r.tenant, r.tool, r.rule, r.failed_over_from, r.target, SUM(d.events) AS events
FROM routing_daily AS d JOIN routing_series AS r ON r.routing_id = d.routing_id
WHERE r.failed_over_from <> ''
GROUP BY d.day, r.tenant, r.tool, r.rule, r.failed_over_from, r.target
