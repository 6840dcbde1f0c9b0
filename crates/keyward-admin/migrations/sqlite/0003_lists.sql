-- Lists in other orders than that of creation. Keys that never expire come after all others; names go by their lower case.
CREATE INDEX keys_by_end ON keys (COALESCE(expires_at, 9223372036854775807), seq);
CREATE INDEX keys_by_name_in_lower_case ON keys (lower(name), seq);

-- What a list is filtered by stands beside the starts of names in key_prefixes: longer than two characters, so that no
-- search finds it.
INSERT OR IGNORE INTO key_prefixes (prefix, seq) SELECT '=disabled', seq FROM keys WHERE disabled = 1;
INSERT OR IGNORE INTO key_prefixes (prefix, seq) SELECT '=never expires', seq FROM keys WHERE expires_at IS NULL;
INSERT OR IGNORE INTO key_prefixes (prefix, seq) SELECT '=never used', k.seq FROM keys k
    WHERE NOT EXISTS (SELECT 1 FROM key_usage u WHERE u.key_id = k.id AND u.permission = '');
INSERT OR IGNORE INTO key_prefixes (prefix, seq) SELECT '=permission ' || p.value, k.seq
    FROM keys k, json_each('["' || replace(k.permissions, ',', '","') || '"]') p WHERE p.value <> '';
