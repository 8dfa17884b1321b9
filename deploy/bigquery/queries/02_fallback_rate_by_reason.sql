-- Why is the paid model asked? Of all uploads of an arm, how many led to a call, by what led to it, and what it cost.
SELECT
  calls.arm,
  calls.reason,
  calls.uploads,
  calls.uploads / totals.uploads AS fallback_rate,
  calls.cost_micro_usd / 1000000 AS cost_usd
FROM (
  SELECT arm, reason, COUNT(DISTINCT upload_id) AS uploads, SUM(cost_micro_usd) AS cost_micro_usd
  FROM tidemark.fallback_calls
  GROUP BY 1, 2
) AS calls
JOIN (
  SELECT arm, COUNT(DISTINCT upload_id) AS uploads
  FROM tidemark.outcomes
  GROUP BY 1
) AS totals ON totals.arm = calls.arm
ORDER BY calls.arm, fallback_rate DESC, calls.reason
