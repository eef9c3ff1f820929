-- Projects, their certificates, and the orders that lead to them.

CREATE TABLE project (
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,  -- the order of the list
    id text PRIMARY KEY,
    name text NOT NULL,
    description text,
    domain text CONSTRAINT project_domain UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What is known of a CA, by all replicas. `renewals` is a bucket that fills with time: each renewal
-- that begins by itself takes one out of it, and none begins while it is empty.
CREATE TABLE authority (
    directory text PRIMARY KEY,                        -- its URL
    paused_until timestamptz,                          -- it limits us
    pause_reason text NOT NULL DEFAULT '',
    renewals double precision NOT NULL,
    counted_at timestamptz NOT NULL DEFAULT now()
);

-- An account at a CA. The key is committed before the CA hears of it: the same key again gives the
-- same account.
CREATE TABLE account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    directory text NOT NULL,
    email text NOT NULL,
    sealed_key bytea NOT NULL,
    url text,                                          -- NULL until the CA has said it
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (directory, email)
);

-- At most one certificate of a project that counts, and one of a staging CA. Its `id` is another
-- with every renewal.
CREATE TABLE certificate (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id text NOT NULL REFERENCES project ON DELETE CASCADE,
    staging boolean NOT NULL DEFAULT false,
    type text NOT NULL CHECK (type IN ('letsencrypt', 'custom')),
    domain text NOT NULL,
    names text[] NOT NULL,
    fingerprint text NOT NULL,
    serial_hex text NOT NULL,
    subject text NOT NULL,
    issuer text NOT NULL,
    issuer_common_name text,
    issuer_organization text,
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    chain_pem text NOT NULL,
    sealed_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    -- how it is renewed; an uploaded one is not
    account_id bigint REFERENCES account,
    issuance jsonb,                                    -- without credentials
    sealed_credentials bytea,                          -- of the DNS provider
    ari_id text,                                       -- RFC 9773 section 4.1
    ari_check_at timestamptz,                          -- NULL where the CA has no renewal information
    renew_at timestamptz,                              -- NULL: not by itself
    failures integer NOT NULL DEFAULT 0,               -- of its renewal, one after the other
    last_renew_attempt timestamptz,
    last_renew_error text,
    UNIQUE (project_id, staging),
    CHECK ((type = 'letsencrypt') = (issuance IS NOT NULL)),
    CHECK (type = 'letsencrypt' OR renew_at IS NULL)
);
CREATE INDEX certificate_due ON certificate (renew_at) WHERE renew_at IS NOT NULL;
CREATE INDEX certificate_ari ON certificate (ari_check_at) WHERE ari_check_at IS NOT NULL;
CREATE INDEX certificate_ending ON certificate (not_after, id);
CREATE INDEX certificate_domain ON certificate (domain) WHERE type = 'letsencrypt' AND NOT staging;

-- The way to one certificate. What the CA knows of it, its URL leads to; what only we know stands
-- here: so whoever finds it goes on with it. The holder of the lease works on it.
CREATE TABLE acme_order (
    id uuid PRIMARY KEY,
    project_id text NOT NULL REFERENCES project ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('obtain', 'renew', 'dry_run')),
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'valid', 'failed')),
    request text NOT NULL,                             -- hash of what was asked for
    waits boolean NOT NULL,                            -- somebody waits for it
    domain text NOT NULL,
    names text[] NOT NULL,
    staging boolean NOT NULL,
    directory text NOT NULL,
    account_id bigint NOT NULL REFERENCES account,
    issuance jsonb NOT NULL,
    sealed_credentials bytea,
    sealed_key bytea,                                  -- of the certificate; NULL once it ended
    csr bytea,                                         -- NULL until the key is made
    replaces text,                                     -- RFC 9773 section 5
    renewed_from timestamptz,
    url text,                                          -- NULL until the CA has said it
    expires_at timestamptz,                            -- by the CA
    actor jsonb NOT NULL,
    request_id text NOT NULL,
    idempotency_scope text,
    idempotency_key text,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    lease uuid,
    leased_until timestamptz,
    error jsonb,                                       -- what a failed one is answered with
    result jsonb,                                      -- what a valid one gave
    retry_at timestamptz,                              -- not before that, says the CA
    warning text,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK (state = 'pending' OR sealed_key IS NULL AND sealed_credentials IS NULL)
);
CREATE UNIQUE INDEX acme_order_active ON acme_order (project_id) WHERE state = 'pending';
CREATE INDEX acme_order_work ON acme_order (next_attempt_at) WHERE state = 'pending';
CREATE INDEX acme_order_of_project ON acme_order (project_id, created_at);
CREATE INDEX acme_order_age ON acme_order (ended_at);

-- What answers http-01 challenges, for as long as their order goes on.
CREATE TABLE http_challenge (
    token text PRIMARY KEY,
    key_authorization text NOT NULL,
    order_id uuid NOT NULL REFERENCES acme_order ON DELETE CASCADE
);
CREATE INDEX http_challenge_of_order ON http_challenge (order_id);

-- TXT records at DNS providers, from before they are added until they are known to be gone.
CREATE TABLE dns_record (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL,                            -- outlives the order
    provider text NOT NULL,
    sealed_credentials bytea NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    remove_at timestamptz,                             -- NULL while the order needs it
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, name, value)
);
CREATE INDEX dns_record_removal ON dns_record (remove_at) WHERE remove_at IS NOT NULL;

-- Up to which end of validity it has been announced that certificates end, so many days ahead; 0
-- days: that they have ended. What had ended before the first look is old news.
CREATE TABLE expiry (
    days integer PRIMARY KEY,
    announced_until timestamptz NOT NULL,
    announced_id bigint NOT NULL DEFAULT 0  -- of several that end at this moment
);
INSERT INTO expiry (days, announced_until)
SELECT days, date_trunc('second', now()) FROM unnest(ARRAY[30, 7, 1, 0]) AS days;

CREATE TRIGGER sealed_key BEFORE INSERT OR UPDATE OF sealed_key ON account
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_key');
CREATE TRIGGER sealed_key BEFORE INSERT OR UPDATE OF sealed_key ON certificate
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_key');
CREATE TRIGGER sealed_credentials BEFORE INSERT OR UPDATE OF sealed_credentials ON certificate
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_credentials');
CREATE TRIGGER sealed_key BEFORE INSERT OR UPDATE OF sealed_key ON acme_order
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_key');
CREATE TRIGGER sealed_credentials BEFORE INSERT OR UPDATE OF sealed_credentials ON acme_order
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_credentials');
CREATE TRIGGER sealed_credentials BEFORE INSERT OR UPDATE OF sealed_credentials ON dns_record
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_credentials');
