-- What the paid model cost, by day, customer and model, and how much of it bought no answer.
SELECT
  CAST(started_at AS DATE) AS day,
  customer_id,
  model,
  COUNT(*) AS calls,
  COUNTIF(error_type IS NOT NULL) AS failed_calls,
  SUM(cost_micro_usd) AS cost_micro_usd,
  SUM(CASE WHEN error_type IS NULL THEN 0 ELSE cost_micro_usd END) AS wasted_micro_usd
FROM tidemark.attempts
WHERE branch = 'fallback'
GROUP BY 1, 2, 3
