-- How often did each alert fire, and for how long? What fires at present counts as often, and without its time.
SELECT
  name,
  severity,
  COUNT(*) AS fired,
  COUNTIF(ends_at IS NULL) AS firing,
  SUM(UNIX_SECONDS(ends_at) - UNIX_SECONDS(starts_at)) AS fired_s,
  MAX(starts_at) AS last_starts_at
FROM (
  SELECT name, severity, starts_at, MAX(ends_at) AS ends_at
  FROM tidemark.alerts
  GROUP BY 1, 2, 3
) AS firings
GROUP BY 1, 2
ORDER BY fired DESC, name
