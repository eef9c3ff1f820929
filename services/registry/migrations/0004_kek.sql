CREATE TRIGGER pkcs12 BEFORE INSERT OR UPDATE OF pkcs12 ON admin_certificate
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('pkcs12');
CREATE TRIGGER legacy_pkcs12 BEFORE INSERT OR UPDATE OF legacy_pkcs12 ON admin_certificate
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('legacy_pkcs12');
CREATE TRIGGER pkcs12 BEFORE INSERT OR UPDATE OF pkcs12 ON agent_certificate
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('pkcs12');
CREATE TRIGGER legacy_pkcs12 BEFORE INSERT OR UPDATE OF legacy_pkcs12 ON agent_certificate
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('legacy_pkcs12');
