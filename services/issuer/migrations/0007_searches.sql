-- What searches page by, in order; why these indexes: docs/decisions/inventory.md.

-- Of instances' certificates, as of the others by `certificate_end`: what ends, and what is valid.
-- The revoked ones, as most of them become when they are superseded, are apart.
CREATE INDEX certificate_instance_end ON certificate (not_after, id)
    WHERE kind = 'instance' AND revoked_at IS NULL;
CREATE INDEX certificate_instance_revoked_end ON certificate (not_after, id)
    WHERE kind = 'instance' AND revoked_at IS NOT NULL;
-- Of what a user may see; instances' certificates belong to no organisation, and nobody made them.
CREATE INDEX certificate_organization_end ON certificate (organization_id, not_after, id)
    WHERE organization_id IS NOT NULL;
CREATE INDEX certificate_creator_end ON certificate (created_by_user_id, not_after, id)
    WHERE created_by_user_id IS NOT NULL;
CREATE INDEX certificate_organization_revoked ON certificate (organization_id, id)
    WHERE organization_id IS NOT NULL AND revoked_at IS NOT NULL;
CREATE INDEX certificate_creator_revoked ON certificate (created_by_user_id, id)
    WHERE created_by_user_id IS NOT NULL AND revoked_at IS NOT NULL;
-- Instances' too: in a platform of many users the few of them are hard to find.
DROP INDEX certificate_kind;
CREATE INDEX certificate_kind ON certificate (kind, id);
