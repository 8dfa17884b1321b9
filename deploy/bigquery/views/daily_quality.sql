-- How good a day's uploads were described, by arm, answering model and lane. Rates are shares of 1.
SELECT
  CAST(arrived_at AS DATE) AS day,
  arm,
  model,
  lane,
  COUNT(*) AS uploads,
  COUNTIF(status = 'completed') / COUNT(*) AS success_rate,
  COUNTIF(branch = 'fallback') / COUNT(*) AS fallback_rate,
  COUNTIF(below_threshold) / COUNT(*) AS below_threshold_rate,
  AVG(confidence) AS mean_confidence,
  AVG(total_ms) AS mean_total_ms,
  SUM(cost_micro_usd) AS cost_micro_usd
FROM tidemark.standing_outcomes
GROUP BY 1, 2, 3, 4
