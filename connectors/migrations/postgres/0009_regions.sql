-- Where uploads came in, and why the paid model was asked; what is there says neither.
ALTER TABLE outcomes ADD COLUMN region TEXT;
ALTER TABLE outcomes ADD COLUMN fallback_reason TEXT;

-- Rows of windows are of an experiment and a region; those so far are of none.
UPDATE windows SET key = '{"experiment":null,' || substr(key, 2, length(key) - 2) || ',"region":null}';
