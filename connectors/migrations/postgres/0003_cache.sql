-- Answers to give again where the same audio is asked about in the same way.
CREATE TABLE cache (
    tenant           TEXT   NOT NULL,   -- who may have it: one customer, or everybody
    question         TEXT   NOT NULL,   -- a hash of all that the answer depends on beside the audio
    content          BYTEA  NOT NULL,   -- SHA-256 of the audio's bytes
    customer_id      TEXT   NOT NULL,   -- whose upload was asked about
    model            TEXT   NOT NULL,
    metadata         TEXT   NOT NULL,   -- a JSON object, its keys in the order of the answer
    confidence       DOUBLE PRECISION,
    field_confidence TEXT   NOT NULL,   -- a JSON object
    fingerprint      BYTEA  NOT NULL,   -- of 32-bit numbers, little-endian; empty where the sound has none
    length_ms        BIGINT NOT NULL,   -- of the sound that the fingerprint is of
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    PRIMARY KEY (tenant, question, content)
);

CREATE INDEX cache_by_customer ON cache (customer_id);
CREATE INDEX cache_by_expiry ON cache (expires_at);

-- Some numbers of each fingerprint: a copy has many of them too.
CREATE TABLE cache_sketches (
    tenant   TEXT   NOT NULL,
    question TEXT   NOT NULL,
    value    BIGINT NOT NULL,
    content  BYTEA  NOT NULL,
    PRIMARY KEY (tenant, question, value, content),
    FOREIGN KEY (tenant, question, content) REFERENCES cache ON DELETE CASCADE
);

CREATE INDEX cache_sketches_by_entry ON cache_sketches (tenant, question, content);
