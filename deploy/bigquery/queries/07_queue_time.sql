-- How long do uploads wait before a model works on them, hour by hour, and what part of their time is that?
SELECT
  CAST(arrived_at AS DATE) AS day,
  EXTRACT(HOUR FROM arrived_at) AS hour,
  lane,
  COUNT(*) AS uploads,
  AVG(queued_ms) AS mean_queued_ms,
  MAX(queued_ms) AS longest_queued_ms,
  SUM(queued_ms) / SUM(total_ms) AS queued_share
FROM tidemark.standing_outcomes
WHERE total_ms > 0
GROUP BY 1, 2, 3
ORDER BY day, hour, lane
