-- Written from time to time, so that a full disk is noticed before somebody needs to revoke a key.
CREATE TABLE write_probe (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    filler BYTEA NOT NULL
);

-- How many rows of the newest batch were added. Null: all.
ALTER TABLE usage_batches ADD COLUMN added BIGINT;
