CREATE TRIGGER secrets BEFORE INSERT OR UPDATE OF secrets ON instance
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_kek('secrets');
