-- What dies of what, and when? Dead letters by hour, reason and the model that was asked last, and how many of them a redrive
-- has mended.
SELECT
  CAST(d.died_at AS DATE) AS day,
  EXTRACT(HOUR FROM d.died_at) AS hour,
  d.error_type,
  d.last_model,
  COUNT(*) AS dead_letters,
  COUNT(DISTINCT d.customer_id) AS customers,
  COUNTIF(o.status = 'completed') AS mended
FROM tidemark.dead_letters AS d
JOIN tidemark.standing_outcomes AS o ON o.upload_id = d.upload_id
GROUP BY 1, 2, 3, 4
ORDER BY day, hour, dead_letters DESC, d.error_type
