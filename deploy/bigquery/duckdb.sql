-- What DuckDB lacks of BigQuery's dialect, so that views and queries run there as they are.
SET TimeZone = 'UTC';
CREATE SCHEMA IF NOT EXISTS tidemark;
CREATE OR REPLACE MACRO json_value(text, path) AS json_extract_string(text, path);
CREATE OR REPLACE MACRO unix_seconds(moment) AS epoch_us(moment) // 1000000;
CREATE TYPE float64 AS DOUBLE;
-- DuckDB's own is null where every condition is.
CREATE OR REPLACE MACRO countif(condition) AS count(CASE WHEN condition THEN 1 END);
