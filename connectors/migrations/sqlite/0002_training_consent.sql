-- Whether models may learn from an upload. Of those that ended before this was asked, none may.
ALTER TABLE outcomes ADD COLUMN training_consent INTEGER NOT NULL DEFAULT 0;
