-- The same as SQLite's, in PostgreSQL's words; the comments stand there.
CREATE TABLE usage_days (
    key_id TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (key_id, day, code)
);
CREATE INDEX usage_days_by_day ON usage_days (day);

CREATE TABLE usage_totals (
    day BIGINT NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    part BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (day, code, part)
);
