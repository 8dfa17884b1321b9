"""The job of benches/windows.rs in Pathway on one worker: rows of windows of a minute by arm, model, lane, tier and region, from lines.

Prints who, from what, workers, outcomes a second and rows, of one run. It has no sketch of quantiles, so it is asked for none.

Needs windows-requirements.txt beside this file. Usage: windows_pathway.py FOLDER, where FOLDER is benches/windows.rs'.
"""

import sys
import time

import pathway as pw


class Outcome(pw.Schema):
    arrived_at: str
    arm: str | None
    region: str | None
    model: str | None
    lane: str
    tier: str | None
    status: str
    branch: str | None
    confidence: float | None
    below_threshold: bool
    cost_micro_usd: int
    queued_ms: int
    inference_ms: int
    total_ms: int


def main(folder):
    rows, requests = [], []
    lines = pw.io.jsonlines.read(f"{folder}/lines/outcomes.ndjson", schema=Outcome, mode="static")
    # Times are in one format, so the minute is the text before the seconds.
    outcomes = lines.with_columns(minute=lines.arrived_at.str.slice(0, 16))
    totals = outcomes.groupby(pw.this.minute, pw.this.arm, pw.this.model, pw.this.lane, pw.this.tier, pw.this.region).reduce(
        pw.this.minute,
        requests=pw.reducers.count(),
        failures=pw.reducers.sum(pw.cast(int, pw.this.status == "dead_lettered")),
        fallbacks=pw.reducers.sum(pw.cast(int, pw.coalesce(pw.this.branch, "") == "fallback")),
        unsure=pw.reducers.sum(pw.cast(int, pw.this.below_threshold)),
        confidence=pw.reducers.sum(pw.coalesce(pw.this.confidence, 0.0)),
        cost=pw.reducers.sum(pw.this.cost_micro_usd),
        queued=pw.reducers.sum(pw.this.queued_ms),
        inference=pw.reducers.sum(pw.this.inference_ms),
        total=pw.reducers.sum(pw.this.total_ms),
    )

    def seen(key, row, time, is_addition):
        if is_addition:
            rows.append(key)
            requests.append(row["requests"])

    pw.io.subscribe(totals, seen)
    start = time.perf_counter()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    took = time.perf_counter() - start
    print(f"Pathway\tlines\t1\t{sum(requests) / took:.0f}\t{len(rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
