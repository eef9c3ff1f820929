-- Organisations, and what users are to each other. The identity column never gives a number again,
-- so the id of a deleted organisation stays free.
CREATE TABLE organization (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX organization_name ON organization (lower(name));

-- One with members cannot be deleted.
ALTER TABLE users ADD CONSTRAINT users_organization
    FOREIGN KEY (organization_id) REFERENCES organization;
CREATE INDEX users_of_organization ON users (organization_id, id);

-- No two names that differ in their case alone: people would take one user for the other.
CREATE UNIQUE INDEX users_username_folded ON users (lower(username));
CREATE UNIQUE INDEX users_email_folded ON users (lower(email));

-- Users as they are shown: without anything of the password.
CREATE VIEW shown_user AS
SELECT id, username, email, role, organization_id, is_active, can_create_ca, can_create_cert,
    can_revoke_cert, can_export_private_key, can_delete_ca, created_at, updated_at
FROM users;
