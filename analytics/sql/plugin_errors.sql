-- Failed calls by class of error, by day, beside all calls of that method on that day.
WITH all_calls AS (
  SELECT u.day, s.tenant, s.tool, s.plugin, s.method, SUM(u.calls) AS calls
  FROM usage_daily AS u JOIN series AS s ON s.series_id = u.series_id
  GROUP BY u.day, s.tenant, s.tool, s.plugin, s.method
)
SELECT u.day, s.tenant, s.tool, s.plugin, s.method, s.error_class, SUM(u.calls) AS errors, MAX(a.calls) AS calls
FROM usage_daily AS u
JOIN series AS s ON s.series_id = u.series_id
JOIN all_calls AS a
  ON a.day = u.day AND a.tenant = s.tenant AND a.tool = s.tool AND a.plugin = s.plugin AND a.method = s.method
WHERE s.outcome <> 'ok'
GROUP BY u.day, s.tenant, s.tool, s.plugin, s.method, s.error_class
