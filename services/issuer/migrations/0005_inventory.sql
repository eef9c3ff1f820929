-- What certificates are searched by; why these indexes: docs/decisions/inventory.md.

-- A common name, or its beginning, whatever the case.
CREATE INDEX certificate_common_name ON certificate (lower(common_name) text_pattern_ops, id);
CREATE INDEX certificate_ca ON certificate (ca_id, id);
-- Instances' certificates, of which there are by far the most, are spared what they can do without:
-- the common name says what their alternative name does, and they end within a day.
-- Any one of the names; without `fastupdate` each insert pays its own way, and none for thousands.
CREATE INDEX certificate_names ON certificate USING gin (subject_alternative_names)
    WITH (fastupdate = off) WHERE kind <> 'instance';
CREATE INDEX certificate_kind ON certificate (kind, id) WHERE kind <> 'instance';
CREATE INDEX certificate_end ON certificate (not_after, id) WHERE kind <> 'instance';
CREATE INDEX certificate_revoked ON certificate (id) WHERE revoked_at IS NOT NULL;
