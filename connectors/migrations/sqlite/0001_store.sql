-- The store's first shape. Times are UTC microseconds, durations milliseconds, money millionths of a US dollar.

-- "TIDE": tells this file from other programs' databases.
PRAGMA application_id = 0x54494445;

-- The spool. Ids are never used again, so a late acknowledgement cannot hit another message.
CREATE TABLE messages (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    lane         TEXT    NOT NULL CHECK (lane IN ('high', 'low')),
    payload      BLOB    NOT NULL,
    enqueued_at  INTEGER NOT NULL,
    leased_until INTEGER,                     -- NULL: nobody has it
    deliveries   INTEGER NOT NULL DEFAULT 0   -- the last one names the lease that counts
) STRICT;

-- A lane's waiting messages lie together here, in the order of their ids, and its leased ones in the order they run
-- out.
CREATE INDEX messages_by_lane ON messages (lane, leased_until);

CREATE TABLE admissions (
    upload_id  TEXT    NOT NULL PRIMARY KEY,
    lane       TEXT    NOT NULL CHECK (lane IN ('high', 'low')),   -- the source's
    arrived_at INTEGER NOT NULL,                                   -- of the first admission
    version    INTEGER NOT NULL DEFAULT 1                          -- of the outcome that it has or will have
) STRICT, WITHOUT ROWID;

-- The log of outcomes, in the order of their commits. A row is never changed: a redrive counts the admission's version
-- up, and the outcome of that version is the one that stands.
CREATE TABLE outcomes (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id        TEXT    NOT NULL,
    version          INTEGER NOT NULL,
    customer_id      TEXT,
    source           TEXT,
    lane             TEXT    NOT NULL,
    tier             TEXT,
    status           TEXT    NOT NULL CHECK (status IN ('completed', 'dead_lettered')),
    branch           TEXT,
    model            TEXT,
    arm              TEXT,
    confidence       REAL,
    below_threshold  INTEGER NOT NULL,
    metadata         TEXT    NOT NULL,   -- a JSON object
    field_confidence TEXT    NOT NULL,   -- a JSON object
    attempts         INTEGER NOT NULL,
    error            TEXT,
    error_type       TEXT,
    queued_ms        INTEGER NOT NULL,
    inference_ms     INTEGER NOT NULL,
    total_ms         INTEGER NOT NULL,
    cost_micro_usd   INTEGER NOT NULL,
    arrived_at       INTEGER NOT NULL,
    completed_at     INTEGER NOT NULL,
    UNIQUE (upload_id, version)
) STRICT;

CREATE TABLE attempts (
    seq            INTEGER NOT NULL REFERENCES outcomes,
    position       INTEGER NOT NULL,   -- from 0, in the order they were made
    number         INTEGER NOT NULL,
    branch         TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    started_at     INTEGER NOT NULL,
    duration_ms    INTEGER NOT NULL,
    cost_micro_usd INTEGER NOT NULL,
    fault          TEXT,               -- a JSON object; NULL where it answered
    PRIMARY KEY (seq, position)
) STRICT, WITHOUT ROWID;

-- What a dead-lettered outcome needs to be tried again. Purging deletes this row; the outcome stays.
CREATE TABLE dead_letters (
    seq         INTEGER PRIMARY KEY REFERENCES outcomes,
    payload     BLOB NOT NULL,
    redriven_at INTEGER
) STRICT;

-- Ranges of outcomes, each written to files as a whole. Only the last one may be unfinished.
CREATE TABLE exports (
    first_seq INTEGER PRIMARY KEY,
    last_seq  INTEGER NOT NULL,
    begun_at  INTEGER NOT NULL,
    done_at   INTEGER
) STRICT;
