-- The same as SQLite's; the comments stand there.
ALTER TABLE store ADD COLUMN names_folded BIGINT NOT NULL DEFAULT 0;
