-- Every call of the paid model, with what led to it: `unsure` where the primary had answered in the same round, but below its
-- threshold; else why the primary had failed; `not_asked` where it was left out.
SELECT
  f.*,
  CASE
    WHEN p.upload_id IS NULL THEN 'not_asked'
    WHEN p.error_type IS NULL THEN 'unsure'
    ELSE p.error_type
  END AS reason
FROM tidemark.attempts AS f
LEFT JOIN tidemark.attempts AS p
  ON p.upload_id = f.upload_id AND p.version = f.version AND p.round = f.round AND p.branch = 'primary'
WHERE f.branch = 'fallback'
