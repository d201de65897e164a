-- Every plugin call since the retention horizon, with the event it was made for.
SELECT c.received_at, LOWER(HEX(e.event_id)) AS event_id, e.injection_id, s.tenant, s.tool, s.plugin, s.plugin_version, s.variant,
       s.method, s.outcome, s.error_class, c.started_at, c.latency_us, c.attempt, c.api_calls, c.cost_micros
FROM call_fact AS c
JOIN series AS s ON s.series_id = c.series_id
LEFT JOIN event_fact AS e ON e.received_at = c.received_at AND e.part = c.part AND e.off = c.off
