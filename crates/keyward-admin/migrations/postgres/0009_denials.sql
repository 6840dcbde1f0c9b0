-- The same as SQLite's; the comments stand there.
CREATE INDEX usage_days_denied ON usage_days (day, key_id, count) WHERE code <> '';
