-- The installation. One row.
CREATE TABLE platform (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    onboarding text NOT NULL DEFAULT 'FRESH' CHECK (onboarding IN ('FRESH', 'COMPLETED')),
    admin_auth_mode text NOT NULL DEFAULT 'p12'
        CHECK (admin_auth_mode IN ('p12', 'hardware-bound')),
    initialised_at timestamptz            -- when administrator and superuser were made
);
INSERT INTO platform DEFAULT VALUES;

-- A claim is the right to have one certificate signed.
CREATE TABLE claim (
    id uuid PRIMARY KEY,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'recorded', 'voided')),
    request_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    void_told boolean NOT NULL DEFAULT false  -- the issuer has confirmed it
);
CREATE INDEX claim_pending ON claim (created_at) WHERE state = 'pending';
CREATE INDEX claim_untold ON claim (created_at) WHERE state = 'voided' AND NOT void_told;

CREATE TABLE admin_certificate (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    claim_id uuid NOT NULL UNIQUE REFERENCES claim,
    fingerprint text NOT NULL UNIQUE,
    serial_hex text NOT NULL,
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'current' CHECK (state IN ('current', 'superseded', 'revoked')),
    pkcs12 bytea,                         -- sealed; NULL where the key is in the admin's hardware
    legacy_pkcs12 bytea,                  -- sealed
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    revocation_reason text,
    revocation_detail text NOT NULL DEFAULT '',
    revoked_by text,                      -- the principal as JSON
    revocation_request_id text,
    revocation_told boolean NOT NULL DEFAULT false,
    CHECK ((state = 'current') = (revoked_at IS NULL)),
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL)),
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL)),
    CHECK ((revoked_at IS NULL) = (revocation_request_id IS NULL))
);
CREATE UNIQUE INDEX admin_certificate_current ON admin_certificate (state) WHERE state = 'current';
CREATE INDEX admin_certificate_untold ON admin_certificate (position)
    WHERE revoked_at IS NOT NULL AND NOT revocation_told;

-- The identity column never gives a number again, so the id of a deleted user stays free.
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    username text NOT NULL CONSTRAINT users_username UNIQUE,
    email text NOT NULL CONSTRAINT users_email UNIQUE,
    password_hash text NOT NULL,          -- argon2id with its parameters
    role text NOT NULL CHECK (role IN ('superuser', 'admin', 'user')),
    is_active boolean NOT NULL DEFAULT true,
    organization_id bigint,
    can_create_ca boolean NOT NULL DEFAULT false,
    can_create_cert boolean NOT NULL DEFAULT false,
    can_revoke_cert boolean NOT NULL DEFAULT false,
    can_export_private_key boolean NOT NULL DEFAULT false,
    can_delete_ca boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A pair of tokens, by their SHA-256 in hex. Refreshing makes the next row of the family.
CREATE TABLE session (
    access_hash text PRIMARY KEY,
    refresh_hash text NOT NULL UNIQUE,
    family uuid NOT NULL,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    access_expires_at timestamptz NOT NULL,
    refresh_expires_at timestamptz NOT NULL,
    refreshed_at timestamptz,             -- its refresh token is spent
    revoked_at timestamptz
);
CREATE INDEX session_family ON session (family);
CREATE INDEX session_of_user ON session (user_id);
CREATE INDEX session_age ON session (refresh_expires_at);

-- The logins of one address in the last minute: as many elements as its limit allows.
CREATE TABLE login_window (
    address text PRIMARY KEY,
    usernames text[] NOT NULL,            -- hashed, for what is typed there may be a password
    times timestamptz[] NOT NULL,
    last_at timestamptz NOT NULL,
    CHECK (cardinality(usernames) = cardinality(times))
);
