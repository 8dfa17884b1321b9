-- Which experiment an outcome counts in: of those that ended before experiments had names, none.
ALTER TABLE outcomes ADD COLUMN experiment TEXT;

-- An experiment's outcomes lie together here, in the order of the log.
CREATE INDEX outcomes_by_experiment ON outcomes (experiment, seq) WHERE experiment IS NOT NULL;

-- Experiments. A name is never used again, since outcomes carry it.
CREATE TABLE experiments (
    name       TEXT   NOT NULL PRIMARY KEY,
    definition TEXT   NOT NULL,   -- a JSON object
    starts_at  BIGINT NOT NULL,
    ends_at    BIGINT,            -- NULL: until it is stopped
    stopped_at BIGINT
);

-- Arms that were stopped before their experiment's end.
CREATE TABLE experiment_stops (
    experiment TEXT   NOT NULL REFERENCES experiments,
    arm        TEXT   NOT NULL,
    stopped_at BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    PRIMARY KEY (experiment, arm)
);
