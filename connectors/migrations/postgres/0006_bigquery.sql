-- Names this store where several of them write to one project: BigQuery's load jobs carry it in their ids.
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity VALUES (left(replace(gen_random_uuid()::text, '-', ''), 10));

-- What has to be known of a BigQuery table's range while it is written, noted before anything is sent.
CREATE TABLE bigquery_tables (
    sink         TEXT   NOT NULL PRIMARY KEY,   -- as in exports
    method       TEXT CHECK (method IN ('load_jobs', 'storage_write')),   -- of the range under way; NULL: nothing was sent
    attempt      BIGINT NOT NULL,   -- of the range's load job, from 1: an id whose job failed is used up
    stream       TEXT,                -- the write stream, where there is one
    next_offset  BIGINT NOT NULL,   -- in it, of the next append
    rows_done    BIGINT NOT NULL,   -- of the range, from its first: they are certainly there
    pending_rows BIGINT NOT NULL,   -- of an append at next_offset that may have been sent; 0: none was
    revision     BIGINT NOT NULL     -- one more at each note: who notes on top of another one's note is refused
);
