-- Requests at the doors by window: accepted, spooled (accepted while the broker did not answer) and refused, with the reason.
SELECT window_start, tenant, tool, 'accepted' AS outcome, '' AS reason, SUM(accepted) AS requests
FROM ingestion_window WHERE accepted > 0 GROUP BY window_start, tenant, tool
UNION ALL
SELECT window_start, tenant, tool, 'spooled', '', SUM(spooled)
FROM ingestion_window WHERE spooled > 0 GROUP BY window_start, tenant, tool
UNION ALL
SELECT window_start, tenant, tool, 'refused', reason, SUM(refused)
FROM refused_window WHERE refused > 0 GROUP BY window_start, tenant, tool, reason
