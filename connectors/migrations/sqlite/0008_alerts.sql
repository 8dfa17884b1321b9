-- How alerts stand. One that never was anything but inactive has no row.
CREATE TABLE alerts (
    name   TEXT    NOT NULL PRIMARY KEY,
    phase  TEXT    NOT NULL CHECK (phase IN ('inactive', 'pending', 'firing', 'resolved')),
    since  INTEGER NOT NULL,   -- rises with each change: who changes an alert that is not as he knew it is refused
    notice TEXT                -- what was told of it last, a JSON object; NULL: it has never fired
) STRICT, WITHOUT ROWID;

-- What a target has not acknowledged yet.
CREATE TABLE alert_notices (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT    NOT NULL,
    notice TEXT    NOT NULL    -- a JSON object
) STRICT;
CREATE INDEX alert_notices_by_target ON alert_notices (target);
