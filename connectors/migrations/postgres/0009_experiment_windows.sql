-- Rows of windows are of an experiment, or of none as those so far.
UPDATE windows SET key = '{"experiment":null,' || substr(key, 2);
