-- Requests by key and day, of the newest 90 days. A day is the number of UTC days since 1970-01-01.
CREATE TABLE usage_days (
    key_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    -- Why requests were denied, or empty for those that were allowed.
    code TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (key_id, day, code)
) WITHOUT ROWID;
CREATE INDEX usage_days_by_day ON usage_days (day);

-- The same of all keys together, deleted ones included. A sum is spread over several rows, so that reports of different
-- VMs seldom wait for each other.
CREATE TABLE usage_totals (
    day INTEGER NOT NULL,
    code TEXT NOT NULL,
    part INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, code, part)
) WITHOUT ROWID;
