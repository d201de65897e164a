-- What calls cost, in millionths of the price plan's currency, by day of the call and at that day's price.
SELECT u.day, s.tenant, s.tool, s.plugin, s.method,
       SUM(u.calls) AS calls, SUM(u.api_calls) AS api_calls, SUM(u.cost_micros) AS cost_micros
FROM usage_daily AS u JOIN series AS s ON s.series_id = u.series_id
GROUP BY u.day, s.tenant, s.tool, s.plugin, s.method
