-- The same as SQLite's, in PostgreSQL's words; the comments stand there.
ALTER TABLE store ADD COLUMN mark BIGINT NOT NULL DEFAULT 0;
ALTER TABLE store ADD COLUMN confirmed TEXT;

CREATE TABLE timeline (
    revision BIGINT PRIMARY KEY,
    mark BIGINT NOT NULL
);

CREATE TABLE clock (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    plausible_at BIGINT NOT NULL
);
INSERT INTO clock (one, plausible_at) SELECT 1, MAX(at) FROM audit HAVING MAX(at) IS NOT NULL;

CREATE TABLE known_tables (
    node TEXT COLLATE "C" NOT NULL,
    vm TEXT COLLATE "C" NOT NULL,
    table_id TEXT COLLATE "C" NOT NULL,
    token TEXT COLLATE "C" NOT NULL,
    filter TEXT NOT NULL,
    max_staleness_ms BIGINT,
    mode TEXT NOT NULL,
    inline_keys TEXT NOT NULL,
    counts BIGINT NOT NULL,
    stamp BIGINT NOT NULL,
    PRIMARY KEY (node, vm, table_id, token)
);
INSERT INTO known_tables (node, vm, table_id, token, filter, max_staleness_ms, mode, inline_keys, counts, stamp)
    SELECT node, vm, '', '', filter, max_staleness_ms, '', '', 1, 0 FROM proxies;
DROP TABLE proxies;
