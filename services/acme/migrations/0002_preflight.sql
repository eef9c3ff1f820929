-- A challenge that nobody's order is about: a preflight asks for it, to see whether requests for a
-- domain arrive here. It ends by itself.
ALTER TABLE http_challenge ALTER COLUMN order_id DROP NOT NULL;
ALTER TABLE http_challenge ADD COLUMN expires_at timestamptz;
ALTER TABLE http_challenge ADD CHECK ((order_id IS NULL) = (expires_at IS NOT NULL));
CREATE INDEX http_challenge_expired ON http_challenge (expires_at) WHERE expires_at IS NOT NULL;
