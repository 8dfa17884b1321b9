-- How did it go, window by window? Requests and their shares without metadata and with the paid model's answer, by experiment and arm.
SELECT
  start,
  width_s,
  experiment,
  arm,
  SUM(requests) AS requests,
  SUM(dead_lettered) / SUM(requests) AS error_rate,
  SUM(fallbacks) / SUM(requests) AS fallback_rate,
  MAX(total_p99_ms) AS largest_p99_ms,
  SUM(cost_micro_usd) / 1000000 AS cost_usd
FROM tidemark.standing_windows
WHERE requests > 0
GROUP BY 1, 2, 3, 4
ORDER BY start, width_s, experiment, arm
