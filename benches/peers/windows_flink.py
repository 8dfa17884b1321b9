"""The job of benches/windows.rs in Flink as a stream, with so many subtasks: rows of windows of a minute by arm, model, lane, tier and region, from lines.

Prints who, from what, subtasks, outcomes a second and rows, of one run, the start of its cluster in this process left out. Flink's
quantiles are exact.

Needs windows-flink-requirements.txt beside this file, Python 3.9 to 3.12 and Java 17. Usage: windows_flink.py FOLDER SUBTASKS, where
FOLDER is benches/windows.rs'.
"""

import sys
import time

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

SOURCE = """
CREATE TABLE outcomes (
  arrived_at TIMESTAMP_LTZ(3), arm STRING, model STRING, lane STRING, tier STRING, region STRING, status STRING, branch STRING, confidence DOUBLE,
  below_threshold BOOLEAN, queued_ms BIGINT, inference_ms BIGINT, total_ms BIGINT, cost_micro_usd BIGINT,
  WATERMARK FOR arrived_at AS arrived_at - INTERVAL '1' SECOND
) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601')
"""
QUANTILES = ", ".join(f"PERCENTILE({time}, ARRAY[0.5, 0.9, 0.95, 0.99])" for time in ("queued_ms", "inference_ms", "total_ms"))
QUERY = f"""
SELECT count(*) AS requests, count(*) FILTER (WHERE status = 'dead_lettered') AS failures,
  count(*) FILTER (WHERE branch = 'fallback') AS fallbacks, count(*) FILTER (WHERE below_threshold) AS unsure,
  avg(confidence) AS confidence, sum(cost_micro_usd) AS cost, {QUANTILES}, window_start, arm, model, lane, tier, region
FROM TUMBLE(TABLE outcomes, DESCRIPTOR(arrived_at), INTERVAL '1' MINUTE)
GROUP BY window_start, window_end, arm, model, lane, tier, region
"""


def table(subtasks):
    configuration = Configuration()
    configuration.set_string("parallelism.default", subtasks)
    return TableEnvironment.create(EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build())


def main(folder, subtasks):
    environment = table(subtasks)
    # The cluster starts with the first job.
    with environment.execute_sql("SELECT 1").collect() as one:
        list(one)
    environment.execute_sql(SOURCE.format(path=f"{folder}/lines/outcomes.ndjson"))
    start = time.perf_counter()
    with environment.execute_sql(QUERY).collect() as found:
        rows = list(found)
    took = time.perf_counter() - start
    requests = sum(row[0] for row in rows)
    with open(f"{folder}/lines/outcomes.ndjson", "rb") as lines:
        assert requests == sum(1 for _ in lines), f"{requests} requests are not all"
    print(f"Flink\tlines\t{subtasks}\t{requests / took:.0f}\t{len(rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
