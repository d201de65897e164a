-- Calls, errors, latency and cost of each plugin method, by day of the call. Averages are latency_us_sum / calls, also over days.
SELECT u.day, s.tenant, s.tool, s.plugin, s.method, s.plugin_version, s.variant,
       SUM(u.calls) AS calls,
       SUM(CASE WHEN s.outcome = 'ok' THEN 0 ELSE u.calls END) AS errors,
       SUM(u.api_calls) AS api_calls,
       SUM(u.cost_micros) AS cost_micros,
       SUM(u.latency_us_sum) AS latency_us_sum,
       MAX(u.latency_us_max) AS latency_us_max
FROM usage_daily AS u JOIN series AS s ON s.series_id = u.series_id
GROUP BY u.day, s.tenant, s.tool, s.plugin, s.method, s.plugin_version, s.variant
