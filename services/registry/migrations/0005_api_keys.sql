-- API keys by the SHA-256 of their secret. The identity column never gives a number again. One that
-- was deleted stays, so that whoever still calls with it has a name on the audit log.
CREATE TABLE api_key (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the order of the list
    hash text NOT NULL UNIQUE,
    name text NOT NULL,
    projects text NOT NULL CHECK (projects IN ('none', 'read', 'write')),
    keys text NOT NULL CHECK (keys IN ('none', 'read')),
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX api_key_alive ON api_key (id) WHERE deleted_at IS NULL;
