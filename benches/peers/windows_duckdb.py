"""The job of benches/windows.rs in DuckDB, as a batch on so many threads: rows of windows of a minute by arm, model, lane, tier and region.

Prints who, from what, threads, outcomes a second and rows; the best of three runs. Quantiles are approximate, as ours are.

Needs windows-requirements.txt beside this file. Usage: windows_duckdb.py FOLDER THREADS, where FOLDER is benches/windows.rs'.
"""

import sys
import time

import duckdb

COLUMNS = (
    "{upload_id: 'VARCHAR', version: 'UINTEGER', arrived_at: 'TIMESTAMPTZ', arm: 'VARCHAR', model: 'VARCHAR', lane: 'VARCHAR', tier: 'VARCHAR', region: 'VARCHAR',"
    " status: 'VARCHAR', branch: 'VARCHAR', error_type: 'VARCHAR', confidence: 'DOUBLE', below_threshold: 'BOOLEAN',"
    " queued_ms: 'UBIGINT', inference_ms: 'UBIGINT', total_ms: 'UBIGINT', cost_micro_usd: 'UBIGINT'}"
)
QUERY = """
SELECT epoch_us(arrived_at) // 60_000_000 AS minute, arm, model, lane, tier, region, count(*) AS requests,
  count(*) FILTER (status = 'dead_lettered') AS failures, count(*) FILTER (branch = 'fallback') AS fallbacks,
  count(*) FILTER (below_threshold) AS unsure, avg(confidence) AS confidence, sum(cost_micro_usd) AS cost,
  approx_quantile(queued_ms, [0.5, 0.9, 0.95, 0.99]) AS queued, approx_quantile(inference_ms, [0.5, 0.9, 0.95, 0.99]) AS inference,
  approx_quantile(total_ms, [0.5, 0.9, 0.95, 0.99]) AS total
FROM {source} GROUP BY ALL
"""


def main(folder, threads):
    sources = {
        "Parquet": f"read_parquet('{folder}/parquet/*.parquet')",
        "lines": f"read_ndjson('{folder}/lines/*.ndjson', columns = {COLUMNS})",
    }
    for name, source in sources.items():
        best = float("inf")
        for _ in range(3):
            base = duckdb.connect(config={"threads": int(threads)})
            start = time.perf_counter()
            rows = base.execute(QUERY.format(source=source)).fetchall()
            best = min(best, time.perf_counter() - start)
            base.close()
        outcomes = sum(row[6] for row in rows)
        print(f"DuckDB\t{name}\t{threads}\t{outcomes / best:.0f}\t{len(rows)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
