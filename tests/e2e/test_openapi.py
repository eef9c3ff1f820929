"""The description at `/openapi.json`, held against what is answered, by schemathesis.

Whatever it makes of the description, no answer is undescribed, in another form than described, or a
5xx.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.platform import Platform, running_platform
from tests.support.programs import output_of

SCHEMATHESIS = Path(sys.executable).with_name("st")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
ENDS_THE_CALLER = r"/(mtls/rotate|upgrade-to-hardware-bound|logout|invalidate|me)$"
"""After these the credential is another one, or none."""
NO_BODY_FOR_IT = "/ocsp/{slug}"
"""It knows no DER; test_ocsp.py makes hostile requests of its own."""
SECONDS = 50
LEAST_CASES = 100
SEED = 1  # what fails here fails again
CHANGES_THE_CALLER = "/api/v1/users/{user_id}"
SECONDS_OF_USERS = 8
LEAST_CASES_OF_USERS = 10


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Platform]:
    with running_platform() as platform:
        yield platform


async def token(platform: Platform) -> str:
    """Return an access token of the superuser."""
    account = json.loads((platform.bootstrap / "superuser.json").read_text())
    async with Client(platform) as nobody:
        answer = await nobody.call(
            "POST", "/api/v1/auth/token", data={"grant_type": "password", **account}
        )
    return str(answer.json()["access_token"])


async def fuzz(platform: Platform, bearer: str, directory: Path, *options: str) -> int:
    """Have everything tried that the options leave in; return how many requests that were."""
    said = await output_of(
        SCHEMATHESIS,
        "run",
        f"{platform.url}/openapi.json",
        f"--tls-verify={platform.ca_file}",
        f"--request-cert={platform.bootstrap / 'admin.crt'}",
        f"--request-cert-key={platform.bootstrap / 'admin.key'}",
        f"--header=Authorization: Bearer {bearer}",
        f"--checks={','.join(CHECKS)}",
        "--phases=coverage,fuzzing",
        f"--seed={SEED}",
        "--continue-on-failure",
        "--no-color",
        "--warnings=off",
        *options,
        cwd=directory,
        seconds=SECONDS + 60,
    )
    generated = re.search(r"(\d+) generated", said)
    assert generated is not None, said
    return int(generated[1])


@pytest.mark.timeout(SECONDS + 80)
async def test_every_answer_is_described(fuzzed: Platform, tmp_path: Path) -> None:
    bearer = await token(fuzzed)
    tried = await fuzz(
        fuzzed,
        bearer,
        tmp_path,
        f"--exclude-path-regex={ENDS_THE_CALLER}",
        f"--exclude-path={NO_BODY_FOR_IT}",
        f"--exclude-path={CHANGES_THE_CALLER}",
        f"--max-time={SECONDS}",
    )
    assert tried > LEAST_CASES
    async with Client(fuzzed, authorization=f"Bearer {bearer}") as caller:
        assert (await caller.call("GET", "/internal/v1/instances")).status_code == 200
    # Last, for another password of the caller's ends all that the caller may do.
    tried = await fuzz(
        fuzzed,
        bearer,
        tmp_path,
        f"--include-path={CHANGES_THE_CALLER}",
        f"--max-time={SECONDS_OF_USERS}",
    )
    assert tried > LEAST_CASES_OF_USERS
