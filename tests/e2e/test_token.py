"""A platform whose issuing CA is in a PKCS #11 token."""

from cryptography import x509

from tests.support.client import administrator, bootstrapped
from tests.support.platform import Platform, home_directory
from tests.support.softhsm import LABEL, PIN, SoftHsm

ISSUING = "SELECT * FROM issuer.ca WHERE kind = 'platform_issuing'"


async def test_a_platform_keeps_its_issuing_key_in_a_token() -> None:
    """`certwire init` makes it there, and what the services need is signed by it."""
    with home_directory() as directory:
        token = SoftHsm.create(directory / "softhsm")
        platform = Platform(
            directory,
            CERTWIRE_ISSUER_KEY_BACKEND="pkcs11",
            CERTWIRE_PKCS11_MODULE=str(token.module),
            CERTWIRE_PKCS11_TOKEN=LABEL,
            **token.environment,
        )
        secrets = platform.home / "secrets"
        secrets.mkdir(mode=0o700, parents=True)
        (secrets / "pkcs11.pin").write_text(PIN)
        try:
            platform.start()
            (ca,) = await platform.rows(ISSUING)
            assert (ca["key_backend"], ca["sealed_key"]) == ("pkcs11", None)
            async with administrator(platform) as admin:
                workload = await bootstrapped(admin)
                (row,) = await admin.certificates(workload.id)
            (leaf,) = await platform.values(
                "SELECT certificate FROM issuer.certificate WHERE fingerprint = $1",
                row["fingerprint"],
            )
            x509.load_der_x509_certificate(leaf).verify_directly_issued_by(
                x509.load_der_x509_certificate(ca["certificate"])
            )
            (log,) = [(platform.logs / "issuer.log").read_text()]
            assert PIN not in log
        finally:
            platform.stop()
