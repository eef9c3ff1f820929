-- Key-encryption keys that are gone for good, by their ids. Whoever still seals under one of them, a
-- replica that was not told, say, is refused: what it would store could never be opened again.
CREATE TABLE retired_kek (
    key_id bytea PRIMARY KEY,
    retired_at timestamptz NOT NULL DEFAULT now()
);

-- For a trigger on each column of sealed values (see shared/secrets.py for their form).
CREATE FUNCTION refuse_retired_kek() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    retired boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %I.retired_kek WHERE key_id = substring(($1).%I FROM 2 FOR 8))',
        TG_TABLE_SCHEMA, TG_ARGV[0]
    ) INTO retired USING NEW;
    IF retired THEN
        RAISE EXCEPTION 'a value under a retired key-encryption key' USING ERRCODE = 'CW001';
    END IF;
    RETURN NEW;
END
$$;
