-- The mark of `head`: random bits that the commit of that revision drew. A copy of the store that goes on by itself draws
-- others, so that a revision and its mark together name one state.
ALTER TABLE store ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;
-- Where the store lived when its list of tables was last known to be complete; null: it never was.
ALTER TABLE store ADD COLUMN confirmed TEXT;

-- Revisions that were the head before, with their marks.
CREATE TABLE timeline (
    revision INTEGER PRIMARY KEY,
    mark INTEGER NOT NULL
);

-- A moment that has surely come: nothing is purged by a clock that runs ahead of it.
CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    plausible_at INTEGER NOT NULL
);
INSERT INTO clock (one, plausible_at) SELECT 1, MAX(at) FROM audit HAVING MAX(at) IS NOT NULL;

-- Tables of keys that filter VMs may serve from. A row is committed before its table can serve for the first time.
CREATE TABLE known_tables (
    node TEXT NOT NULL,
    vm TEXT NOT NULL,
    -- The VM's own name for the table, which nobody else knows; empty for filters that send none.
    table_id TEXT NOT NULL,
    -- Which token it is fetched with; empty: written before tokens were kept.
    token TEXT NOT NULL,
    filter TEXT NOT NULL,
    -- Null: no limit.
    max_staleness_ms INTEGER,
    -- `enforce`, `shadow`, or empty where the filter does not say.
    mode TEXT NOT NULL,
    -- `none`, `fallback`, `always`, or empty where the filter does not say.
    inline_keys TEXT NOT NULL,
    -- 0: a filter that asked once, and may be gone.
    counts INTEGER NOT NULL,
    -- Differs with each write, so that a row is removed only by who knows its newest state.
    stamp INTEGER NOT NULL,
    PRIMARY KEY (node, vm, table_id, token)
) WITHOUT ROWID;
INSERT INTO known_tables (node, vm, table_id, token, filter, max_staleness_ms, mode, inline_keys, counts, stamp)
    SELECT node, vm, '', '', filter, max_staleness_ms, '', '', 1, 0 FROM proxies;
DROP TABLE proxies;
