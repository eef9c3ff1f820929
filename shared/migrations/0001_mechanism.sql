-- What every service keeps beside its own tables.

-- One row is one audit record and, where something happened, its event.
CREATE TABLE outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry text NOT NULL,            -- the audit entry as JSON, without its place in the chain
    event_headers text,             -- CloudEvents attributes as JSON
    event_subject text,
    event text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sequence bigint UNIQUE,         -- gapless, assigned by the relay after the commit
    previous_hash text,
    hash text,
    CHECK ((sequence IS NULL) = (hash IS NULL) AND (hash IS NULL) = (previous_hash IS NULL)),
    CHECK ((event IS NULL) = (event_subject IS NULL) AND (event IS NULL) = (event_headers IS NULL))
);
CREATE INDEX outbox_unsequenced ON outbox (position) WHERE sequence IS NULL;

-- How far the chain and its publication have come. One row.
CREATE TABLE relay (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence bigint NOT NULL DEFAULT 0,
    hash text NOT NULL DEFAULT repeat('0', 64),
    published bigint NOT NULL DEFAULT 0,  -- goes back where a stream has to get all rows again
    reached bigint NOT NULL DEFAULT 0,    -- the furthest that it has ever been
    streams text NOT NULL DEFAULT '{}'  -- stream name → {created, sequence} as last acknowledged
);
INSERT INTO relay DEFAULT VALUES;

-- Messages that took effect, so that a second delivery does not.
CREATE TABLE inbox (
    source text NOT NULL,
    message_id text NOT NULL,
    reply text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, message_id)
);
CREATE INDEX inbox_age ON inbox (created_at);

-- Answers to requests that carried an Idempotency-Key.
CREATE TABLE idempotency (
    scope text NOT NULL,
    key text NOT NULL,
    request text NOT NULL,
    reply text,                     -- NULL: the first answer held a secret that is shown once
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
