-- Pages of the audit log in a range of time, and of what one actor did in one way.
CREATE INDEX audit_by_time ON audit (at, seq);
CREATE INDEX audit_by_actor_and_time ON audit (actor, at, seq);
CREATE INDEX audit_by_action_and_time ON audit (action, at, seq);
CREATE INDEX audit_by_actor_action_and_time ON audit (actor, action, at, seq);
