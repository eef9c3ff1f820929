-- Which certificates are revoked, as CRLs and OCSP responders say it.

-- Revocations that no CRL lists yet. The statement that revokes writes them, the transaction that
-- makes the CRL takes them.
CREATE TABLE crl_waiting (
    ca_id bigint NOT NULL,
    serial_hex text NOT NULL,
    revoked_at timestamptz NOT NULL,
    reason text NOT NULL,            -- a RevocationReason
    not_after timestamptz NOT NULL,  -- of the certificate
    PRIMARY KEY (ca_id, serial_hex)
);
INSERT INTO crl_waiting (ca_id, serial_hex, revoked_at, reason, not_after)
SELECT ca_id, serial_hex, revoked_at, revocation_reason, not_after
FROM certificate WHERE revoked_at IS NOT NULL AND not_after > now();

-- The CRL that was made last, one row a CA: head, the entries of all segments, tail.
CREATE TABLE crl (
    ca_id bigint PRIMARY KEY REFERENCES ca,
    number bigint NOT NULL,          -- cRLNumber, RFC 5280 section 5.2.3
    this_update timestamptz NOT NULL,
    next_update timestamptz NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    remake_at timestamptz,           -- when it is made again unasked; NULL: not any more
    entries integer NOT NULL,        -- how many
    size integer NOT NULL,           -- octets of the whole
    head bytea NOT NULL,
    tail bytea NOT NULL
);
CREATE INDEX crl_remake ON crl (remake_at) WHERE remake_at IS NOT NULL;

-- Entries in DER in the order of their coming; all segments but the last hold the same number.
CREATE TABLE crl_segment (
    ca_id bigint NOT NULL REFERENCES ca,
    place integer NOT NULL,          -- from 0 without gaps
    crl_number bigint NOT NULL,      -- of the CRL with which it was written last
    entries bytea NOT NULL,
    ends bigint[] NOT NULL,          -- notAfter of each entry's certificate in Unix seconds
    PRIMARY KEY (ca_id, place)
);
ALTER TABLE crl_segment ALTER entries SET STORAGE EXTERNAL;  -- serials do not compress

-- The certificate and key with which OCSP responses about a CA's certificates are signed.
CREATE TABLE ocsp_responder (
    ca_id bigint PRIMARY KEY REFERENCES ca,
    certificate bytea NOT NULL,      -- DER, as in `certificate`
    sealed_key bytea NOT NULL,
    not_after timestamptz NOT NULL
);
