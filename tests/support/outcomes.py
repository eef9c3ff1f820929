"""What callers hear when something is refused."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from contracts.errors import CertwireError, ErrorCode


@contextmanager
def refused(code: ErrorCode) -> Iterator[pytest.ExceptionInfo[CertwireError]]:
    """Expect the block to raise a CertwireError of this code."""
    with pytest.raises(CertwireError) as caught:
        yield caught
    assert caught.value.code is code, caught.value
