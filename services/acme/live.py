"""The live directory of this replica: what the order engine and the overview go by."""

from pathlib import Path
from typing import Final

from services.acme.settings import AcmeSettings
from shared.runtime import Runtime
from shared.secrets import Sealer


class Live:
    """The files of certificates, where this replica keeps them."""

    def __init__(self, runtime: Runtime, settings: AcmeSettings, sealer: Sealer) -> None:
        self._runtime = runtime
        self._sealer = sealer
        self._root: Final = settings.acme_live_dir

    @property
    def is_kept(self) -> bool:
        """Return whether this replica keeps files."""
        return self._root is not None

    def path_of(self, domain: str) -> Path:
        """Return where a domain's chain is, or would be."""
        name = domain.replace("*.", "_wildcard.")
        return (self._root or Path()) / "live" / name / "fullchain.pem"

    async def deliver(self, domain: str) -> str | None:
        """Write a domain's files now and reload; return what is to be said of it, if anything."""

    async def fill(self) -> None:
        """Keep the files as the database has them, for as long as the process lives."""

    async def warnings(self) -> list[str]:
        """Return what an operator has to know."""
        return []
