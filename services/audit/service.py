"""What the audit service's handlers act on."""

from dataclasses import dataclass

from services.audit.barrier import Barrier
from shared.runtime import Runtime


@dataclass(frozen=True)
class Audit:
    """The service's dependencies."""

    runtime: Runtime
    barrier: Barrier
