"""`certwire ca show`."""

from cryptography import x509

from services.cli.ca_show import fingerprint_of
from tests.support.stack import Stack


async def test_the_platforms_cas_are_printed(stack: Stack) -> None:
    async with stack.services():
        shown = await stack.line.run("ca", "show")
        root = await stack.line.run("ca", "show", "root")
        [certificate] = x509.load_pem_x509_certificates(root.out.encode())
        again = await stack.line.run("ca", "show", fingerprint_of(certificate)[:16])
        nobody = await stack.line.run("ca", "show", "nobody")
    assert shown.out == (stack.home / "bootstrap" / "ca.crt").read_text()
    assert certificate.subject == certificate.issuer
    assert again.out == root.out
    assert (nobody.code, nobody.out) == (1, "")
    assert nobody.err == "certwire: no CA fits 'nobody': see `certwire ca list`\n"
