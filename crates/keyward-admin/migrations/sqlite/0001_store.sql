-- One row: the store itself. Every change of a key takes the next `head` and is committed with it.
CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    identity TEXT NOT NULL,
    head INTEGER NOT NULL,
    live_count INTEGER NOT NULL,
    -- The 64 bits of the checksum, as a signed integer.
    live_checksum INTEGER NOT NULL,
    -- The newest tombstone that was removed; 0: none yet.
    compacted INTEGER NOT NULL,
    -- Rises with every change that takes no revision (tokens, identity), so that running services notice.
    version INTEGER NOT NULL
);

CREATE TABLE keys (
    -- Order of creation: lists and searches go by it, newest first.
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    -- What the masked form shows: the words before the underscore and the last four characters.
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    -- Machine names, joined by commas.
    permissions TEXT NOT NULL,
    -- Times are milliseconds since 1970-01-01T00:00:00Z.
    created_at INTEGER NOT NULL,
    regenerated_at INTEGER,
    expires_in TEXT NOT NULL,
    expires_at INTEGER,
    disabled INTEGER NOT NULL,
    revision INTEGER NOT NULL UNIQUE
);
CREATE INDEX keys_by_expiry ON keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE tombstones (
    revision INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    deleted_at INTEGER NOT NULL
);

-- Substrings of three characters and more, in the lower case of name, id and last four.
CREATE VIRTUAL TABLE key_search USING fts5 (text, content = '', contentless_delete = 1, tokenize = 'trigram');

-- Starts of one and two characters of the same.
CREATE TABLE key_prefixes (
    prefix TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (prefix, seq)
) WITHOUT ROWID;

CREATE TABLE key_usage (
    key_id TEXT NOT NULL,
    -- A machine name, or empty for the key as a whole.
    permission TEXT NOT NULL,
    count INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (key_id, permission)
) WITHOUT ROWID;

-- The newest batch of each VM, so that a repeated one counts once.
CREATE TABLE usage_batches (
    vm TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    received_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
);
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    subject_name TEXT NOT NULL,
    revision INTEGER,
    -- A JSON object.
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject_id, seq);
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_action ON audit (action, seq);
CREATE TRIGGER audit_keeps_entries BEFORE UPDATE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps_all_entries BEFORE DELETE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;

-- Filter VMs, so that a restarted service still knows who may hold an old key.
CREATE TABLE proxies (
    node TEXT NOT NULL,
    vm TEXT NOT NULL,
    filter TEXT NOT NULL,
    -- Null: no limit.
    max_staleness_ms INTEGER,
    applied INTEGER NOT NULL,
    in_contact INTEGER NOT NULL,
    last_contact_at INTEGER NOT NULL,
    PRIMARY KEY (node, vm)
) WITHOUT ROWID;
