-- How each window stands: its rows in their largest versions. A corrected row keeps its window, so a filter on start reads only the
-- partitions of those days.
SELECT *
FROM tidemark.windows
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY width_s, start, experiment, arm, model, lane, tier, region ORDER BY version DESC) = 1
