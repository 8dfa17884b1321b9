-- How far in the log of outcomes each sink of messages has come.
CREATE TABLE sinks (
    name     TEXT   NOT NULL PRIMARY KEY,
    last_seq BIGINT NOT NULL
);
