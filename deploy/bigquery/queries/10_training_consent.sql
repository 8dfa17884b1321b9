-- From how many uploads may models learn, and how many of those have an answer of the paid model to learn from?
SELECT
  CAST(arrived_at AS DATE) AS day,
  tier,
  COUNT(*) AS uploads,
  COUNTIF(training_consent) / COUNT(*) AS consent_share,
  COUNTIF(training_consent AND branch = 'fallback') AS to_learn_from
FROM tidemark.standing_outcomes
WHERE tier IS NOT NULL
GROUP BY 1, 2
ORDER BY day, tier
