"""What others read out of Tidemark's Parquet files, a line of JSON for each reader and table: its name, the table, the columns with
their types, and the sum of a column and the number of rows by day.

Usage: read.py DATA, which is a data folder of Tidemark's.
"""

import json
import sys

import duckdb
import pandas
import polars
import pyarrow.dataset

SUMS = {"outcomes": "total_ms", "windows": "requests"}


def with_duckdb(folder, column):
    source = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    types = {row[0]: row[1] for row in duckdb.sql(f"DESCRIBE SELECT * EXCLUDE (day) FROM {source}").fetchall()}
    days = duckdb.sql(f"SELECT day::VARCHAR, sum({column})::BIGINT, count(*) FROM {source} GROUP BY day ORDER BY day").fetchall()
    return types, days


def with_pandas(folder, column):
    # With its own types pandas has whole numbers that may be null as floats.
    frame = pandas.read_parquet(folder, dtype_backend="pyarrow")
    days = frame.groupby(frame["day"].astype(str))[column].agg(["sum", "count"])
    types = {name: str(kind).removesuffix("[pyarrow]") for name, kind in frame.dtypes.items() if name != "day"}
    return types, [[day, int(row["sum"]), int(row["count"])] for day, row in days.iterrows()]


def with_pyarrow(folder, column):
    table = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive").to_table()
    days = table.group_by("day").aggregate([(column, "sum"), (column, "count")]).sort_by("day").to_pylist()
    types = {field.name: str(field.type) for field in table.schema if field.name != "day"}
    return types, [[str(row["day"]), row[f"{column}_sum"], row[f"{column}_count"]] for row in days]


def with_polars(folder, column):
    frame = polars.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
    days = frame.group_by("day").agg(polars.col(column).sum().alias("sum"), polars.len()).sort("day").rows()
    types = {name: str(kind) for name, kind in frame.schema.items() if name != "day"}
    return types, [[str(day), total, count] for day, total, count in days]


for name, read in {"DuckDB": with_duckdb, "pandas": with_pandas, "pyarrow": with_pyarrow, "Polars": with_polars}.items():
    for table, column in SUMS.items():
        types, days = read(f"{sys.argv[1]}/{table}", column)
        print(json.dumps({"reader": name, "table": table, "types": types, "days": days}))
