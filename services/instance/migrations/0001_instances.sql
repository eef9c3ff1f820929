CREATE TABLE instance (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'running', 'stopped', 'terminated')),
    wg_public_key bytea NOT NULL CHECK (length(wg_public_key) = 32),
    vpn_ip text NOT NULL,
    secrets bytea,                        -- sealed
    created_at timestamptz NOT NULL DEFAULT now(),
    -- All that a renewal is decided by stands in this one row: whoever updates it decides.
    current_fingerprint text,
    current_expires_at timestamptz,
    renewed_at timestamptz,               -- the last successful renewal
    pending_claim uuid,
    failing_since timestamptz,            -- window of failed attempts
    failures integer NOT NULL DEFAULT 0,
    refreshing_since timestamptz,         -- window of secrets/refresh
    refreshes integer NOT NULL DEFAULT 0
);

-- The InternalCertInventory.
CREATE TABLE certificate (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instance,
    claim_id uuid NOT NULL UNIQUE,
    fingerprint text NOT NULL UNIQUE,
    serial_hex text NOT NULL,
    public_key_sha256 text NOT NULL,
    certificate_pem text NOT NULL,
    not_before timestamptz NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    superseded_by text,                   -- fingerprint; set by a renewal, not by a bootstrap
    revoked_at timestamptz,
    revocation_reason text,
    revocation_detail text NOT NULL DEFAULT '',
    revoked_by text,                      -- the actor as JSON
    revocation_request_id text,
    revocation_told boolean NOT NULL DEFAULT false,  -- the issuer has confirmed it
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL)),
    CHECK (superseded_by IS NULL OR revoked_at IS NOT NULL)
);
CREATE INDEX certificate_inventory ON certificate (instance_id, position);
CREATE INDEX certificate_untold ON certificate (position)
    WHERE revoked_at IS NOT NULL AND NOT revocation_told;

-- A claim is the right to have one certificate signed.
CREATE TABLE claim (
    id uuid PRIMARY KEY,
    instance_id uuid NOT NULL REFERENCES instance,
    renews text,                          -- fingerprint of what it takes the place of
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'recorded', 'voided')),
    request_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    void_told boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX claim_pending ON claim (instance_id) WHERE state = 'pending';
CREATE INDEX claim_untold ON claim (created_at) WHERE state = 'voided' AND NOT void_told;

CREATE TABLE bootstrap_token (
    hash text PRIMARY KEY,                -- SHA-256 in hex
    instance_id uuid NOT NULL REFERENCES instance,
    expires_at timestamptz NOT NULL,
    claim_id uuid,                        -- while a certificate is being signed for it
    spent_at timestamptz
);
CREATE INDEX bootstrap_token_of_instance ON bootstrap_token (instance_id) WHERE spent_at IS NULL;
CREATE INDEX bootstrap_token_of_claim ON bootstrap_token (claim_id) WHERE claim_id IS NOT NULL;

-- Bootstraps that failed, by address: the window begins with the first of them.
CREATE TABLE bootstrap_attempt (
    address text PRIMARY KEY,
    window_began timestamptz NOT NULL,
    failures integer NOT NULL
);
