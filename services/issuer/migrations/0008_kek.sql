CREATE TRIGGER sealed_key BEFORE INSERT OR UPDATE OF sealed_key ON ca
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_key');
CREATE TRIGGER sealed_key BEFORE INSERT OR UPDATE OF sealed_key ON certificate_key
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_key');
CREATE TRIGGER sealed_key BEFORE INSERT OR UPDATE OF sealed_key ON key_pool
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_key');
CREATE TRIGGER sealed_key BEFORE INSERT OR UPDATE OF sealed_key ON ocsp_responder
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('sealed_key');
