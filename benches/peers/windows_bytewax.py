"""The job of benches/windows.rs in Bytewax on one worker: rows of windows of a minute by arm, model, lane, tier and region, from lines.

Prints who, from what, workers, outcomes a second and rows, of one run. Quantiles are those of buckets 2 % wide, as ours are.

Needs windows-requirements.txt beside this file. Usage: windows_bytewax.py FOLDER, where FOLDER is benches/windows.rs'.
"""

import json
import math
import sys
import time
from collections import Counter
from datetime import datetime, timedelta, timezone

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
TIMES = ("queued_ms", "inference_ms", "total_ms")
BASE = math.log(1.02)


def keyed(line):
    outcome = json.loads(line)
    return "|".join(str(outcome[key]) for key in ("arm", "model", "lane", "tier", "region")), outcome


def arrived_at(outcome):
    return datetime.fromisoformat(outcome["arrived_at"])


def nothing():
    return {"requests": 0, "failures": 0, "fallbacks": 0, "unsure": 0, "confidence": 0.0, "cost": 0, **{time: Counter() for time in TIMES}}


def add(totals, outcome):
    totals["requests"] += 1
    totals["failures"] += outcome["status"] == "dead_lettered"
    totals["fallbacks"] += outcome["branch"] == "fallback"
    totals["unsure"] += outcome["below_threshold"]
    totals["confidence"] += outcome["confidence"] or 0.0
    totals["cost"] += outcome["cost_micro_usd"]
    for time in TIMES:
        totals[time][int(math.log(outcome[time] + 1) / BASE)] += 1
    return totals


def merge(one, other):
    return {key: one[key] + other[key] for key in one}


def quantiles(counts):
    total, seen, wanted, found = sum(counts.values()), 0, [0.5, 0.9, 0.95, 0.99], []
    for bucket, count in sorted(counts.items()):
        seen += count
        while wanted and seen >= wanted[0] * total:
            found.append(math.exp(bucket * BASE) - 1)
            wanted.pop(0)
    return found


def main(folder):
    rows = []
    flow = Dataflow("windows")
    lines = op.input("lines", flow, FileSource(f"{folder}/lines/outcomes.ndjson"))
    outcomes = op.map("parse", lines, keyed)
    clock = win.EventClock(arrived_at, wait_for_system_duration=timedelta(seconds=1))
    minutes = win.TumblingWindower(length=timedelta(seconds=60), align_to=START)
    totals = win.fold_window("add", outcomes, clock, minutes, nothing, add, merge).down
    ready = op.map_value("row", totals, lambda at: (at[0], {**at[1], **{time: quantiles(at[1][time]) for time in TIMES}}))
    op.output("rows", ready, TestingSink(rows))
    start = time.perf_counter()
    run_main(flow)
    took = time.perf_counter() - start
    requests = sum(totals["requests"] for _, (_, totals) in rows)
    print(f"Bytewax\tlines\t1\t{requests / took:.0f}\t{len(rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
