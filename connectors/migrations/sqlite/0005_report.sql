-- Admissions in the order of their arrival, for the search for the first that has no outcome.
CREATE INDEX admissions_by_arrival ON admissions (arrived_at);

-- No admission is written any more with an arrival before this moment.
CREATE TABLE arrivals (sealed_until INTEGER NOT NULL) STRICT;
INSERT INTO arrivals VALUES (0);

-- How far the report of windows of a width came.
CREATE TABLE reports (
    width_s       INTEGER PRIMARY KEY,
    written_until INTEGER NOT NULL,   -- every window that ends by then is written
    applied_seq   INTEGER NOT NULL,   -- and counts what the log holds of it up to here
    resume_seq    INTEGER NOT NULL    -- the log holds nothing up to here of windows that are not written
) STRICT;

-- Rows of closed windows. A row is never changed: a correction is a row of the next version.
CREATE TABLE windows (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    width_s  INTEGER NOT NULL,
    start_at INTEGER NOT NULL,
    key      TEXT    NOT NULL,   -- a JSON object
    version  INTEGER NOT NULL,
    fields   TEXT    NOT NULL,   -- a JSON object, key and version included
    totals   TEXT    NOT NULL,   -- what a correction adds to
    UNIQUE (width_s, start_at, key, version)
) STRICT;
