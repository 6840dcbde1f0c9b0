-- 1: every key has its folded name among its properties in key_prefixes. The service adds those of older keys at its start.
ALTER TABLE store ADD COLUMN names_folded INTEGER NOT NULL DEFAULT 0;
