-- What is the music? Genres with their tempi, out of the answers' JSON. Of unsure answers, only those above a half.
SELECT
  JSON_VALUE(metadata, '$.genre') AS genre,
  COUNT(*) AS uploads,
  MIN(CAST(JSON_VALUE(metadata, '$.tempo_bpm') AS FLOAT64)) AS slowest_bpm,
  AVG(CAST(JSON_VALUE(metadata, '$.tempo_bpm') AS FLOAT64)) AS mean_bpm,
  MAX(CAST(JSON_VALUE(metadata, '$.tempo_bpm') AS FLOAT64)) AS fastest_bpm
FROM tidemark.standing_outcomes
WHERE status = 'completed' AND confidence >= 0.5
GROUP BY 1
ORDER BY uploads DESC, genre
