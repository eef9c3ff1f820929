"""AWS Signature Version 4 as its specification has it, to check what others sign.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

ALGORITHM = "AWS4-HMAC-SHA256"
AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Credential=([^/]+)/([0-9]{{8}}/[^/]+/[^/]+/aws4_request), "
    r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)
TOLERATED = timedelta(minutes=5)


@dataclass(frozen=True)
class Signed:
    """A request as it came over the wire; names of headers in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    content: bytes

    def problem(self, key_id: str, secret: str, region: str, service: str) -> str | None:
        """Return the code of what is wrong with its signature; None where it is right."""
        found = AUTHORIZATION.fullmatch(self.headers.get("authorization", ""))
        if found is None:
            return "IncompleteSignature"
        signer, scope, names, signature = found.groups()
        if signer != key_id:
            return "InvalidClientTokenId"
        moment = datetime.fromisoformat(self.headers["x-amz-date"])
        if abs(moment - datetime.now(UTC)) > TOLERATED:
            return "RequestExpired"
        if scope != f"{moment:%Y%m%d}/{region}/{service}/aws4_request" or "host" not in names:
            return "SignatureDoesNotMatch"
        right = self.signature(secret, scope, names)
        return None if hmac.compare_digest(right, signature) else "SignatureDoesNotMatch"

    def signature(self, secret: str, scope: str, names: str) -> str:
        """Return the signature over the headers with these names."""
        headers = "".join(f"{name}:{self.headers[name].strip()}\n" for name in names.split(";"))
        query = "&".join(sorted(part for part in self.query.split("&") if part))
        payload = hashlib.sha256(self.content).hexdigest()
        canonical = f"{self.method}\n{self.path}\n{query}\n{headers}\n{names}\n{payload}"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{ALGORITHM}\n{self.headers['x-amz-date']}\n{scope}\n{hashed}"
        key = f"AWS4{secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()
