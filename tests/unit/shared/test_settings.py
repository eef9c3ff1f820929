"""Settings from the environment, and secrets from files."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.secrets import new_key
from shared.settings import SealingSettings, Settings


def test_services_find_outside_servers_by_the_usual_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/certwire")
    monkeypatch.setenv("NATS_URL", "nats://bus:4222")
    settings = Settings()
    assert (settings.database_url, settings.nats_url) == (
        "postgresql://db/certwire",
        "nats://bus:4222",
    )


def test_our_own_names_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://other/x")
    monkeypatch.setenv("CERTWIRE_DATABASE_URL", "postgresql://ours/x")
    assert Settings().database_url == "postgresql://ours/x"


def test_secrets_lie_in_the_home_unless_a_directory_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CERTWIRE_SECRETS_DIR", raising=False)
    monkeypatch.setenv("CERTWIRE_HOME", "/somewhere")
    assert Settings().secrets == Path("/somewhere/secrets")
    monkeypatch.setenv("CERTWIRE_SECRETS_DIR", str(tmp_path))
    (tmp_path / "kek").write_text("value\n")
    assert Settings().secret("kek") == "value"
    with pytest.raises(FileNotFoundError):
        Settings().secret("other")


def test_no_service_takes_more_connections_than_it_is_given_nor_less_than_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CERTWIRE_DATABASE_CONNECTIONS", "1")
    with pytest.raises(ValidationError):
        Settings()


def test_settings_do_not_change_while_a_service_runs() -> None:
    with pytest.raises(ValidationError):
        Settings().home = Path("/elsewhere")  # type: ignore[misc]  # what is tried


def test_a_process_has_one_sealer_that_follows_its_file(tmp_path: Path) -> None:
    settings = SealingSettings(home=tmp_path)
    with pytest.raises(FileNotFoundError):
        _ = settings.sealer
    settings.secrets.mkdir()
    kek = settings.secrets / "kek"
    kek.write_text(new_key())
    sealer = settings.sealer
    first = sealer.current
    kek.write_text(f"{new_key()}\n{kek.read_text()}")
    sealer.reload()
    assert settings.sealer is sealer
    assert sealer.current != first
