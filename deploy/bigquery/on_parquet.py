#!/usr/bin/env python3
"""Runs an analyst's query on Parquet files in DuckDB (pip install duckdb), with the views of this folder.

    deploy/bigquery/on_parquet.py data deploy/bigquery/queries/03_success_by_arm.sql

Each folder below the first argument is a table: outcomes and windows, and the others where they are.
--json prints the names of the columns and then the rows, each a JSON list.
"""

import datetime
import json
import pathlib
import sys

import duckdb

HERE = pathlib.Path(__file__).resolve().parent
TABLES = ("outcomes", "attempts", "dead_letters", "windows", "experiment_reports", "alerts", "audit")
# In the order in which they look at each other.
VIEWS = ("standing_outcomes", "daily_quality", "fallback_calls", "fallback_cost", "standing_windows")


def connect(data):
    connection = duckdb.connect()
    connection.execute((HERE / "duckdb.sql").read_text())
    for table in TABLES:
        files = sorted(str(path) for path in (data / table).rglob("*.parquet") if not path.name.startswith("."))
        if files:
            listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
            source = f"read_parquet([{listed}], hive_partitioning = false, union_by_name = true)"
            connection.execute(f"CREATE VIEW tidemark.{table} AS SELECT * FROM {source}")
    for view in VIEWS:
        try:
            connection.execute(f"CREATE VIEW tidemark.{view} AS {(HERE / 'views' / (view + '.sql')).read_text()}")
        except duckdb.CatalogException:
            print(f"without the view {view}: a table that it looks at has no files", file=sys.stderr)
    return connection


def plain(value):
    return value.isoformat() if isinstance(value, datetime.date) else value


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--json"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    data, query = map(pathlib.Path, arguments)
    answer = connect(data).sql(query.read_text())
    if len(arguments) == len(sys.argv) - 1:
        print(answer)
        return
    print(json.dumps(answer.columns))
    # Moments as microseconds, which need no package for time zones.
    columns = [
        f'epoch_us("{name}")' if "TIME ZONE" in str(kind) else f'"{name}"'
        for name, kind in zip(answer.columns, answer.types)
    ]
    for row in answer.project(", ".join(columns)).fetchall():
        print(json.dumps([plain(value) for value in row], default=str))


main()
