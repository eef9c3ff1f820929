-- Which requests with an Idempotency-Key were answered with an order: whoever began it, and whoever
-- joined it. Where it fails, all of them may be made again.
CREATE TABLE order_answer (
    order_id uuid NOT NULL REFERENCES acme_order ON DELETE CASCADE,
    scope text NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (order_id, scope, key)
);

INSERT INTO order_answer SELECT id, idempotency_scope, idempotency_key FROM acme_order
WHERE idempotency_scope IS NOT NULL AND idempotency_key IS NOT NULL AND state = 'pending';

ALTER TABLE acme_order DROP COLUMN idempotency_scope, DROP COLUMN idempotency_key;
