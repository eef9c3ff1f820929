-- Agents, their certificates and enrolment tokens; what the administrator's rotation leaves behind.

-- A claim may say what its certificate is for: then it is the only one pending for that.
ALTER TABLE claim ADD COLUMN subject text;             -- such as agent:build-1
CREATE UNIQUE INDEX claim_of_subject ON claim (subject) WHERE state = 'pending';

-- The grant of a rotation: the old certificate may fetch the bundle of its successor, once.
ALTER TABLE admin_certificate
    ADD COLUMN superseded_by text,                     -- fingerprint; set by a rotation only
    ADD COLUMN download_until timestamptz;             -- NULL: no grant, or spent

-- A label has many rows and at most one that is active.
CREATE TABLE agent (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the order of the list
    label text NOT NULL,
    capabilities text[] NOT NULL,
    allowed_sites text[] NOT NULL,
    enrollment_method text NOT NULL CHECK (enrollment_method IN ('p12', 'hardware-bound')),
    fingerprint text NOT NULL,                         -- of the newest certificate
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE UNIQUE INDEX agent_active ON agent (label) WHERE revoked_at IS NULL;

-- An agent's certificate is accepted until it is revoked, or 24 hours after it was superseded.
CREATE TABLE agent_certificate (
    fingerprint text PRIMARY KEY,
    agent_id bigint NOT NULL REFERENCES agent,
    claim_id uuid NOT NULL UNIQUE REFERENCES claim,
    serial_hex text NOT NULL,
    certificate_pem text NOT NULL,
    public_key_sha256 text,                            -- NULL where the issuer made the key
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    pkcs12 bytea,                                      -- sealed; NULL where the agent has the key
    legacy_pkcs12 bytea,                               -- sealed
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    predecessor text,                                  -- fingerprint of what its first use ends
    superseded_by text,                                -- fingerprint
    superseded_at timestamptz,
    revoked_at timestamptz,
    revocation_reason text,
    revocation_detail text NOT NULL DEFAULT '',
    revoked_by text,                                   -- the principal as JSON
    revocation_request_id text,
    revocation_told boolean NOT NULL DEFAULT false,    -- the issuer has confirmed it
    CHECK ((superseded_at IS NULL) = (superseded_by IS NULL)),
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL)),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
    CHECK ((revoked_at IS NULL) = (revocation_request_id IS NULL)),
    CHECK (revoked_at IS NULL OR pkcs12 IS NULL AND legacy_pkcs12 IS NULL)
);
CREATE UNIQUE INDEX agent_certificate_newest ON agent_certificate (agent_id)
    WHERE revoked_at IS NULL AND superseded_at IS NULL;
CREATE UNIQUE INDEX agent_certificate_superseded ON agent_certificate (agent_id)
    WHERE revoked_at IS NULL AND superseded_at IS NOT NULL;
CREATE INDEX agent_certificate_ending ON agent_certificate (superseded_at)
    WHERE revoked_at IS NULL AND superseded_at IS NOT NULL;
CREATE INDEX agent_certificate_untold ON agent_certificate (revoked_at)
    WHERE revoked_at IS NOT NULL AND NOT revocation_told;

-- Agents as they are shown: with the facts of their newest certificate.
CREATE VIEW shown_agent AS
SELECT agent.id, label, capabilities, allowed_sites, enrollment_method, agent.fingerprint,
    serial_hex, agent.created_at, not_after AS expires_at, agent.revoked_at IS NOT NULL AS revoked
FROM agent JOIN agent_certificate USING (fingerprint);

-- Tokens by their SHA-256 in hex. One that expired stays, to be told apart from an unknown one.
CREATE TABLE enrollment_token (
    hash text PRIMARY KEY,
    label text NOT NULL,
    capabilities text[] NOT NULL,
    allowed_sites text[] NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'expired', 'consumed')),
    expires_at timestamptz NOT NULL,
    claim_id uuid REFERENCES claim                     -- holds the token while it is pending
);
CREATE UNIQUE INDEX enrollment_token_pending ON enrollment_token (label) WHERE state = 'pending';
CREATE INDEX enrollment_token_age ON enrollment_token (expires_at);

-- Enrolments with unknown tokens, by address: the window begins with the first of them.
CREATE TABLE enrollment_attempt (
    address text PRIMARY KEY,
    window_began timestamptz NOT NULL,
    failures integer NOT NULL
);
