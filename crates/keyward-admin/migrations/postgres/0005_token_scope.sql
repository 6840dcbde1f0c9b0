-- The same as SQLite's; the comments stand there.
ALTER TABLE tokens ADD COLUMN realm TEXT;
ALTER TABLE tokens ADD COLUMN nodes TEXT;
