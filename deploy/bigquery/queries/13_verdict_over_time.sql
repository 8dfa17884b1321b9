-- How did the verdicts come about? The decisive metric's difference and its interval in each report, and when an arm was stopped.
SELECT
  experiment,
  arm,
  reported_at,
  metric,
  arm_units + control_units AS units,
  difference,
  low,
  high,
  verdict,
  stop_reason
FROM tidemark.experiment_reports
WHERE is_decisive
ORDER BY experiment, arm, reported_at
