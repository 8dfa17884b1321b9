-- Who did what to the data, day by day, and to how many uploads where it was done to uploads?
SELECT
  CAST(done_at AS DATE) AS day,
  actor,
  operation,
  COUNT(*) AS operations,
  SUM(CAST(JSON_VALUE(detail, '$.uploads') AS INT64)) AS uploads
FROM tidemark.audit
GROUP BY 1, 2, 3
ORDER BY day, actor, operation
