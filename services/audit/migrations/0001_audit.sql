-- What the audit stream carried: once each, in order, verified. Nothing changes or leaves it.
CREATE TABLE record (
    position bigint PRIMARY KEY,          -- gapless, in the order of keeping
    service text NOT NULL,
    sequence bigint NOT NULL,
    hash text NOT NULL,
    record text NOT NULL,                 -- the whole record: its canonical JSON
    -- For queries; texts are shortened to what an index takes.
    time timestamptz NOT NULL,
    action text NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    object_type text NOT NULL,
    object_id text NOT NULL,
    organization_id bigint,               -- the object's, else the actor's
    outcome text NOT NULL,
    request_id text NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (service, sequence)
);
CREATE INDEX record_time ON record USING brin (time);
CREATE INDEX record_action ON record (action, position);
CREATE INDEX record_actor ON record (actor_id, position);
CREATE INDEX record_object ON record (object_id, position);
CREATE INDEX record_organization ON record (organization_id, position)
    WHERE organization_id IS NOT NULL;

-- Records whose predecessor has not come yet, as they arrived.
CREATE TABLE early (
    service text NOT NULL,
    sequence bigint NOT NULL,
    subject text NOT NULL,
    payload bytea NOT NULL,
    arrived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, sequence)
);

-- What is not believed, as it arrived.
CREATE TABLE violation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    found_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    service text,                         -- what it claims to be
    sequence bigint,
    subject text NOT NULL,
    payload bytea NOT NULL,
    payload_sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(payload)) STORED,
    UNIQUE (subject, payload_sha256)      -- a message that comes again is the same one
);

REVOKE UPDATE, DELETE ON record, violation FROM audit;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only ever added to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER record_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON record
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER violation_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON violation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
