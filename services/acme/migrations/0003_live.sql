-- Which domains have another certificate than before, or none: for replicas that keep their files.
-- Read in the order of transactions, whose numbers say when all earlier ones have ended; that of
-- identities is not the one in which rows become visible.
CREATE TABLE certificate_change (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    domain text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (transaction, id)
);

CREATE INDEX certificate_live ON certificate (domain, id) WHERE NOT staging;

CREATE FUNCTION note_certificate_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before text := CASE WHEN TG_OP <> 'INSERT' AND NOT OLD.staging THEN OLD.domain END;
    after text := CASE WHEN TG_OP <> 'DELETE' AND NOT NEW.staging THEN NEW.domain END;
BEGIN
    EXECUTE format(
        'INSERT INTO %I.certificate_change (domain)'
        ' SELECT DISTINCT name FROM unnest(ARRAY[$1, $2]) AS name WHERE name IS NOT NULL',
        TG_TABLE_SCHEMA
    ) USING before, after;
    RETURN NULL;
END
$$;

-- A key that is sealed anew is the same key, and a revoked certificate stays until it is removed.
CREATE TRIGGER live AFTER INSERT OR DELETE OR UPDATE OF domain, staging, chain_pem ON certificate
    FOR EACH ROW EXECUTE FUNCTION note_certificate_change();
