-- Which requests with an Idempotency-Key were answered with an order that goes on: whoever began it,
-- and whoever joined it. Where it fails, all of them may be made again. No foreign key: whoever joins
-- must not wait for the order's row, for whoever works on it may wait for the project's.
CREATE TABLE order_answer (
    order_id uuid NOT NULL,
    scope text NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (order_id, scope, key)
);

INSERT INTO order_answer SELECT id, idempotency_scope, idempotency_key FROM acme_order
WHERE idempotency_scope IS NOT NULL AND idempotency_key IS NOT NULL AND state = 'pending';

ALTER TABLE acme_order DROP COLUMN idempotency_scope, DROP COLUMN idempotency_key;
