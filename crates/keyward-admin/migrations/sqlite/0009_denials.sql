-- The keys of which the most requests were denied on a day.
CREATE INDEX usage_days_denied ON usage_days (day, key_id, count) WHERE code <> '';
