-- What shadows of experiments said of uploads that had ended.
CREATE TABLE shadow_outcomes (
    experiment TEXT    NOT NULL,
    arm        TEXT    NOT NULL,   -- the shadow
    seq        INTEGER NOT NULL REFERENCES outcomes,
    fields     TEXT    NOT NULL,   -- an outcome, a JSON object
    PRIMARY KEY (experiment, seq, arm)
) STRICT, WITHOUT ROWID;
