-- Finished events by the rule that chose, the target that took them, and kind of ticket; by day of receipt.
SELECT d.day, r.tenant, r.tool, r.rule, r.rule_set_version, r.target, r.ticket_type, r.priority, r.outcome, SUM(d.events) AS events
FROM routing_daily AS d JOIN routing_series AS r ON r.routing_id = d.routing_id
GROUP BY d.day, r.tenant, r.tool, r.rule, r.rule_set_version, r.target, r.ticket_type, r.priority, r.outcome
