-- How far in the log of outcomes each sink of messages has come.
CREATE TABLE sinks (
    name     TEXT    NOT NULL PRIMARY KEY,
    last_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Ranges are written whole by each sink of files or load jobs; those so far are of the Parquet files.
CREATE TABLE exports_by_sink (
    sink      TEXT    NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    begun_at  INTEGER NOT NULL,
    done_at   INTEGER,
    PRIMARY KEY (sink, first_seq)
) STRICT, WITHOUT ROWID;

INSERT INTO exports_by_sink SELECT 'parquet', first_seq, last_seq, begun_at, done_at FROM exports;
DROP TABLE exports;
ALTER TABLE exports_by_sink RENAME TO exports;
