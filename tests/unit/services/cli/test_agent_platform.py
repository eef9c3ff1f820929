"""Tests of services.cli.agent_platform: verified, bounded, clear about what to ask again."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from services.cli import agent_platform
from services.cli.agent_platform import Platform, PlatformError
from services.cli.errors import UsageError
from tests.support.agent_platform import CUT, DROP, LOSE, RENEW, TOKEN, FakePlatform, Fault, serving
from tests.support.authority import Authority
from tests.support.csr import csr_pem

ENROL = "/api/enroll"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakePlatform]:
    with serving(FakePlatform(), tmp_path) as platform:
        yield platform


@pytest.fixture
def platform(fake: FakePlatform, tmp_path: Path) -> Platform:
    return Platform(fake.url, fake.write_ca(tmp_path))


def error_of(platform: Platform, path: str = RENEW) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        platform.post(path, {})
    return raised.value


def test_posts_and_returns_the_answer(platform: Platform, fake: FakePlatform) -> None:
    answer = platform.post(ENROL, {"token": TOKEN, "csr": csr_pem()}, "key-1")
    assert answer["label"] == "macbook-pro"
    assert fake.keys == ["key-1"]
    assert fake.calls[0][0] == ENROL


def test_presents_the_certificate(fake: FakePlatform, tmp_path: Path) -> None:
    leaf = fake.authority.client()
    fake.issued.append(leaf.certificate)
    platform = Platform(fake.url, fake.write_ca(tmp_path), leaf.write(tmp_path / "client.pem"))
    assert platform.post(RENEW, {"csr": csr_pem()})["ok"] is True


def test_a_server_that_the_ca_did_not_sign_is_no_platform(
    fake: FakePlatform, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.crt"
    stranger.write_text(Authority().ca_pem)
    error = error_of(Platform(fake.url, stranger))
    assert "certificate verify failed" in str(error)
    assert not error.is_final
    assert not fake.calls


def test_a_server_of_another_name_is_no_platform(fake: FakePlatform, tmp_path: Path) -> None:
    platform = Platform(fake.url.replace("localhost", "127.1.2.3"), fake.write_ca(tmp_path))
    assert error_of(platform).status is None
    assert not fake.calls


@pytest.mark.parametrize("fault", [LOSE, DROP])
def test_a_lost_reply_is_no_answer(platform: Platform, fake: FakePlatform, fault: str) -> None:
    fake.faults.append(fault)
    error = error_of(platform)
    assert (error.status, error.is_final) == (None, False)


@pytest.mark.parametrize("fault", [CUT, (200, ["somebody in between"], {})])
def test_neither_is_a_success_that_cannot_be_read(
    platform: Platform, fake: FakePlatform, fault: Fault
) -> None:
    fake.faults.append(fault)
    with pytest.raises(PlatformError) as raised:
        platform.post(ENROL, {"token": TOKEN, "csr": csr_pem()})
    assert (raised.value.status, raised.value.is_final) == (None, False)
    assert "cannot be read" in str(raised.value)


def test_a_platform_that_is_away_is_no_answer(tmp_path: Path) -> None:
    fake = FakePlatform(port=1)
    error = error_of(Platform(fake.url, fake.write_ca(tmp_path)))
    assert (error.status, error.is_final) == (None, False)
    assert "localhost:1" in str(error)


def test_a_platform_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_platform, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        fake = FakePlatform(port=server.getsockname()[1])
        error = error_of(Platform(fake.url, fake.write_ca(tmp_path)))
    assert "timed out" in str(error)


def test_what_is_no_http_is_no_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        fake = FakePlatform(port=server.getsockname()[1])

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = error_of(Platform(fake.url, fake.write_ca(tmp_path)))
        thread.join()
    assert error.status is None


@pytest.mark.parametrize(
    ("status", "final"),
    [
        (400, True),
        (401, True),
        (403, True),
        (404, True),
        (408, False),
        (409, True),
        (422, True),
        (429, False),
        (500, False),
        (503, False),
        (504, False),
        (201, True),
    ],
)
def test_which_errors_asking_again_cannot_help(
    platform: Platform,
    fake: FakePlatform,
    status: int,
    final: bool,  # noqa: FBT001 - a parameter
) -> None:
    fake.faults.append((status, {"error": "why"}, {}))
    error = error_of(platform)
    assert (error.status, error.is_final) == (status, final)
    assert str(error) == f"{status} why"


def test_retry_after_invites_to_ask_again(platform: Platform, fake: FakePlatform) -> None:
    later = datetime.now(UTC) + timedelta(seconds=100)
    naive = format_datetime(later.replace(tzinfo=None)).replace("-0000", "")
    for value, least, most in (
        ("7", 7, 7),
        (format_datetime(later, usegmt=True), 98, 101),
        (naive.strip(), 98, 101),
        (format_datetime(later - timedelta(days=1), usegmt=True), 0, 0),
        ("9" * 400, 1e8, 1e9),
    ):
        fake.faults.append((409, {"detail": "not yet"}, {"Retry-After": value}))
        error = error_of(platform)
        assert not error.is_final
        assert error.retry_after is not None
        assert least <= error.retry_after <= most
    for value in ("soon", "-1", "\u0661", ""):
        fake.faults.append((503, {}, {"Retry-After": value.encode().decode("latin-1")}))
        assert error_of(platform).retry_after is None


def test_what_the_server_says_fits_into_a_line(platform: Platform, fake: FakePlatform) -> None:
    fake.faults.append((400, {"detail": [{"msg": "a\nb\x1b[0m" + "x" * 1000}]}, {}))
    text = str(error_of(platform))
    assert text.isprintable()
    assert len(text) < 400
    fake.faults.append((502, {}, {}))
    assert str(error_of(platform)) == "502 Bad Gateway"


@pytest.mark.parametrize(
    "url",
    ["http://host", "host:8443", "https://", "https://host:x", "https://h?q", "https://h#f", ""],
)
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="not the address of a platform"):
        Platform(url, tmp_path)


def test_an_address_may_have_a_path(fake: FakePlatform, tmp_path: Path) -> None:
    fake.faults.append((404, {}, {}))
    error_of(Platform(f"{fake.url}/behind/", fake.write_ca(tmp_path)))
    assert fake.calls[0][0] == f"/behind{RENEW}"
