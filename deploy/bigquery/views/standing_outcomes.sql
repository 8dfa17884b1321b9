-- How each upload stands: the outcome of its largest version. An upload keeps its arrival when it is redriven, so a filter on
-- arrived_at reads only the partitions of those days.
SELECT *
FROM tidemark.outcomes
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY upload_id, arrived_at ORDER BY version DESC) = 1
