-- The same as SQLite's, in PostgreSQL's words; the comments stand there.
CREATE TABLE store (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    identity TEXT NOT NULL,
    head BIGINT NOT NULL,
    live_count BIGINT NOT NULL,
    live_checksum BIGINT NOT NULL,
    compacted BIGINT NOT NULL,
    version BIGINT NOT NULL
-- The row is rewritten by every change: room for versions on its page keeps that cheap.
) WITH (fillfactor = 10);

CREATE TABLE keys (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    sha256 BYTEA NOT NULL UNIQUE CHECK (length(sha256) = 32),
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    permissions TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    regenerated_at BIGINT,
    expires_in TEXT NOT NULL,
    expires_at BIGINT,
    disabled BIGINT NOT NULL,
    revision BIGINT NOT NULL UNIQUE,
    -- What `q` is looked for in, in lower case.
    search TEXT COLLATE "C" NOT NULL,
    -- The same with a letter or digit in the place of every other character: pg_trgm makes trigrams of those alone. Its
    -- index is made by the service where pg_trgm can be had.
    folded TEXT COLLATE "C" NOT NULL
);
CREATE INDEX keys_by_expiry ON keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE tombstones (
    revision BIGINT PRIMARY KEY,
    id TEXT NOT NULL,
    deleted_at BIGINT NOT NULL
);

CREATE TABLE key_prefixes (
    prefix TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (prefix, seq)
);

CREATE TABLE key_usage (
    key_id TEXT COLLATE "C" NOT NULL,
    permission TEXT COLLATE "C" NOT NULL,
    count BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (key_id, permission)
);

CREATE TABLE usage_batches (
    vm TEXT COLLATE "C" PRIMARY KEY,
    seq BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT NOT NULL,
    sha256 BYTEA NOT NULL UNIQUE CHECK (length(sha256) = 32),
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE audit (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    subject_name TEXT NOT NULL,
    revision BIGINT,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (subject_id, seq);
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_action ON audit (action, seq);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_keeps_entries BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE TABLE proxies (
    node TEXT COLLATE "C" NOT NULL,
    vm TEXT COLLATE "C" NOT NULL,
    filter TEXT NOT NULL,
    max_staleness_ms BIGINT,
    applied BIGINT NOT NULL,
    in_contact BIGINT NOT NULL,
    last_contact_at BIGINT NOT NULL,
    PRIMARY KEY (node, vm)
);
