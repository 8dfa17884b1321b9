-- Changes of alerts that were told, in their order: one row each, whoever was told.
CREATE TABLE alert_changes (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    name   TEXT    NOT NULL,
    phase  TEXT    NOT NULL CHECK (phase IN ('firing', 'resolved')),
    since  INTEGER NOT NULL,
    notice TEXT    NOT NULL,   -- what was told, a JSON object
    UNIQUE (name, since)
) STRICT;

-- What experiments looked like, now and then: a row for each moment, arm and metric.
CREATE TABLE experiment_reports (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    experiment  TEXT    NOT NULL,
    reported_at INTEGER NOT NULL,
    fields      TEXT    NOT NULL   -- a JSON object, experiment and moment included
) STRICT;
CREATE INDEX experiment_reports_by_experiment ON experiment_reports (experiment);

-- What was done to the data, and by whom: written with the operation or not at all.
CREATE TABLE audit (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    done_at   INTEGER NOT NULL,
    actor     TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    target    TEXT    NOT NULL,
    detail    TEXT    NOT NULL   -- a JSON object
) STRICT;
