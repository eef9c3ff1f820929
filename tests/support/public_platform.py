"""A platform with a CA of the internet's kind: pebble asks its plain port for http-01 answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.embedded import free_port
from tests.support.ca_way import CaWay
from tests.support.pebble import ChallengeDns, Pebble, challenge_dns, pebble
from tests.support.platform import Platform, running_platform


@dataclass(frozen=True)
class PublicPlatform:
    """The platform, its CA, and the DNS that both ask.

    `cloudflare_port` is where that provider would be; a test that needs it serves it there.
    """

    platform: Platform
    authority: Pebble
    names: ChallengeDns
    cloudflare_port: int


@contextmanager
def public_platform(
    *, way: CaWay | None = None, nonces_rejected_percent: int = 5, **variables: str
) -> Iterator[PublicPlatform]:
    """Run a platform of one's own with its CA; nothing of them is left afterwards.

    Its staging CA is the same one by another name. With a `way` it goes to the CA by that; whoever
    uses it opens it.
    """
    http_port, cloudflare_port = free_port(), free_port()
    with (
        challenge_dns() as names,
        pebble(
            names, http_port=http_port, nonces_rejected_percent=nonces_rejected_percent
        ) as authority,
    ):
        directory, trust = authority.directory_url, authority.ca_file
        if way is not None:
            directory, trust = way.leads_to(authority), way.ca_file
        with running_platform(
            CERTWIRE_HTTP_PORT=str(http_port),
            CERTWIRE_ACME_HTTP01_PORT=str(http_port),
            CERTWIRE_ACME_DIRECTORY_URL=directory,
            CERTWIRE_ACME_STAGING_DIRECTORY_URL=directory.replace("127.0.0.1", "localhost"),
            CERTWIRE_ACME_CA_BUNDLE=str(trust),
            CERTWIRE_ACME_DNS_RESOLVER=names.address,
            CERTWIRE_ACME_DNS_CLOUDFLARE_BASE_URL=f"http://127.0.0.1:{cloudflare_port}/client/v4",
            **variables,
        ) as platform:
            yield PublicPlatform(platform, authority, names, cloudflare_port)
