"""What people write as the reason of a revocation."""

import re
from typing import Final

from contracts.certificates import RevocationReason

_BY_WORD: Final = {reason.replace("_", ""): reason for reason in RevocationReason}


def reason_of(text: str | None) -> RevocationReason:
    """Return the CRLReason that a text names; case, spaces and punctuation do not count."""
    word = re.sub(r"[\W_]", "", text or "").lower()
    return _BY_WORD.get(word, RevocationReason.UNSPECIFIED)
