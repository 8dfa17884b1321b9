-- How long do uploads take, from arrival to outcome? Exact quantiles: the smallest time that so many of them did not exceed.
SELECT
  lane,
  COUNT(*) AS uploads,
  MIN(CASE WHEN place >= 0.50 * uploads THEN total_ms END) AS p50_ms,
  MIN(CASE WHEN place >= 0.90 * uploads THEN total_ms END) AS p90_ms,
  MIN(CASE WHEN place >= 0.95 * uploads THEN total_ms END) AS p95_ms,
  MIN(CASE WHEN place >= 0.99 * uploads THEN total_ms END) AS p99_ms,
  MAX(total_ms) AS longest_ms
FROM (
  SELECT
    lane,
    total_ms,
    ROW_NUMBER() OVER (PARTITION BY lane ORDER BY total_ms) AS place,
    COUNT(*) OVER (PARTITION BY lane) AS uploads
  FROM tidemark.standing_outcomes
) AS placed
GROUP BY lane
ORDER BY lane
