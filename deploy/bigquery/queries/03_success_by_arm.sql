-- How do the arms do? Success rate with the counts behind it, confidence, speed and cost.
-- Looking often at this until it pleases proves nothing: whether a difference is real, `tidemark experiment report` says.
SELECT
  experiment,
  arm,
  COUNT(*) AS uploads,
  COUNTIF(status = 'completed') AS completed,
  COUNTIF(status = 'completed') / COUNT(*) AS success_rate,
  COUNTIF(branch = 'fallback') / COUNT(*) AS fallback_rate,
  AVG(confidence) AS mean_confidence,
  AVG(inference_ms) AS mean_inference_ms,
  SUM(cost_micro_usd) / 1000000 / COUNT(*) AS cost_usd_per_upload
FROM tidemark.standing_outcomes
WHERE arm IS NOT NULL
GROUP BY 1, 2
ORDER BY experiment, arm
