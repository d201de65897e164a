-- Every finished event since the retention horizon. event_id is 32 hexadecimal digits; injection_id is empty but for replays.
SELECT e.received_at, LOWER(HEX(e.event_id)) AS event_id, e.injection_id, r.tenant, r.tool, e.ticket_id, r.ticket_type, r.priority,
       r.rule, r.rule_set_version, r.target, e.target_ticket_id, r.outcome, e.processed_at
FROM event_fact AS e JOIN routing_series AS r ON r.routing_id = e.routing_id
