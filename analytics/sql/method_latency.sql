-- Percentiles of each plugin method's latency, failed calls included, by nearest rank; right to 1.6 % (buckets.py).
-- A range of days must stand in the first step: SQLite reads every day when it is applied to the result.
WITH counted AS (
  SELECT s.tenant, s.tool, s.plugin, s.method, l.bucket, SUM(l.n) AS n
  FROM latency_daily AS l JOIN series AS s ON s.series_id = l.series_id
  WHERE {days}
  GROUP BY s.tenant, s.tool, s.plugin, s.method, l.bucket
), ranked AS (
  SELECT tenant, tool, plugin, method,
         CASE WHEN bucket < 64 THEN bucket
              ELSE (((bucket & 31) + 32) << CAST((bucket >> 5) - 1 AS INTEGER)) + (1 << CAST((bucket >> 5) - 1 AS INTEGER)) / 2
         END AS latency_us,
         SUM(n) OVER (PARTITION BY tenant, tool, plugin, method ORDER BY bucket) AS upto,
         SUM(n) OVER (PARTITION BY tenant, tool, plugin, method) AS calls
  FROM counted
)
SELECT tenant, tool, plugin, method,
       MAX(calls) AS calls,
       MIN(CASE WHEN upto * 100 >= calls * 50 THEN latency_us END) AS p50_us,
       MIN(CASE WHEN upto * 100 >= calls * 95 THEN latency_us END) AS p95_us,
       MIN(CASE WHEN upto * 100 >= calls * 99 THEN latency_us END) AS p99_us
FROM ranked
GROUP BY tenant, tool, plugin, method
