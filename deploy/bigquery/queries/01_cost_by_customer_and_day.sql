-- What does each customer cost, day by day, and what does one upload of theirs?
-- Redriven uploads count with all their versions, because all of them were paid for.
SELECT
  CAST(arrived_at AS DATE) AS day,
  customer_id,
  COUNT(DISTINCT upload_id) AS uploads,
  SUM(cost_micro_usd) / 1000000 AS cost_usd,
  SUM(cost_micro_usd) / 1000000 / COUNT(DISTINCT upload_id) AS cost_usd_per_upload
FROM tidemark.outcomes
GROUP BY 1, 2
ORDER BY day, cost_usd DESC, customer_id
