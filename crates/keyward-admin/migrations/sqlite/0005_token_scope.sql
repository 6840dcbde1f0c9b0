-- What an edge token is bound to: a realm, and a pattern of node names. Null: every realm, all nodes.
ALTER TABLE tokens ADD COLUMN realm TEXT;
ALTER TABLE tokens ADD COLUMN nodes TEXT;
-- A store that never had a key gave none to anybody, so no filter VM can be missing in its list. A file has one process,
-- so that no older version gives keys away meanwhile.
UPDATE store SET confirmed = identity || '/' WHERE confirmed IS NULL AND head = 0;
