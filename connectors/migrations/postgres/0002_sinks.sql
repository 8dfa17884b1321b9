-- How far in the log of outcomes each sink of messages has come.
CREATE TABLE sinks (
    name     TEXT   NOT NULL PRIMARY KEY,
    last_seq BIGINT NOT NULL
);

-- Ranges are written whole by each sink of files or load jobs; those so far are of the Parquet files.
ALTER TABLE exports ADD COLUMN sink TEXT NOT NULL DEFAULT 'parquet';
ALTER TABLE exports ALTER COLUMN sink DROP DEFAULT;
ALTER TABLE exports DROP CONSTRAINT exports_pkey;
ALTER TABLE exports ADD PRIMARY KEY (sink, first_seq);
