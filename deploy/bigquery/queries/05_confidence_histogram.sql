-- How sure are the models? Answers by tenths of confidence: 0.8 counts those from 0.8 to below 0.9, and 0.9 those up to 1.
SELECT
  model,
  LEAST(FLOOR(confidence * 10), 9) / 10 AS from_confidence,
  COUNT(*) AS answers,
  COUNTIF(below_threshold) AS below_threshold
FROM tidemark.standing_outcomes
WHERE confidence IS NOT NULL
GROUP BY 1, 2
ORDER BY model, from_confidence
