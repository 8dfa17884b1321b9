-- Who sends most, and how well are they served? The ten with the most uploads.
SELECT
  customer_id,
  tier,
  COUNT(*) AS uploads,
  COUNT(*) / SUM(COUNT(*)) OVER () AS share,
  COUNTIF(status = 'completed') / COUNT(*) AS success_rate,
  AVG(total_ms) AS mean_total_ms,
  MAX(arrived_at) AS last_arrived_at
FROM tidemark.standing_outcomes
WHERE customer_id IS NOT NULL
GROUP BY 1, 2
ORDER BY uploads DESC, customer_id
LIMIT 10
