-- The same as SQLite's; the comments stand there.
CREATE INDEX keys_by_end ON keys (COALESCE(expires_at, 9223372036854775807), seq);
CREATE INDEX keys_by_name_in_lower_case ON keys (lower(name), seq);

INSERT INTO key_prefixes (prefix, seq) SELECT '=disabled', seq FROM keys WHERE disabled = 1 ON CONFLICT DO NOTHING;
INSERT INTO key_prefixes (prefix, seq) SELECT '=never expires', seq FROM keys WHERE expires_at IS NULL
    ON CONFLICT DO NOTHING;
INSERT INTO key_prefixes (prefix, seq) SELECT '=never used', k.seq FROM keys k
    WHERE NOT EXISTS (SELECT 1 FROM key_usage u WHERE u.key_id = k.id AND u.permission = '') ON CONFLICT DO NOTHING;
INSERT INTO key_prefixes (prefix, seq) SELECT DISTINCT '=permission ' || p, k.seq
    FROM keys k, unnest(string_to_array(k.permissions, ',')) p WHERE p <> '' ON CONFLICT DO NOTHING;
