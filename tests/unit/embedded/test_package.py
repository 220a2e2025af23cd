"""Installing a server: through apt-get, without starting the service, with apt's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_budget.embedded import ServerFailed, package


@pytest.fixture
def start_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move the system's policy file, so that these tests need no root and touch no machine."""
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(package, "_START_POLICY", path)
    return path


def put_apt_get(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a script on PATH in the place of apt-get."""
    program = directory / "apt-get"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_lists_are_fetched_first_and_services_stay_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_policy: Path
) -> None:
    """A fresh machine has no package lists; a test run must not leave a server on port 6379."""
    calls = tmp_path / "calls"
    script = f'echo "$@; services: $({start_policy}; echo $?)" >> {calls}'
    put_apt_get(tmp_path, monkeypatch, script)

    package.install_package("redis-server")

    assert [
        "-q update; services: 101",
        "-q install -y --no-install-recommends redis-server; services: 101",
    ] == calls.read_text().splitlines()
    assert not start_policy.exists()


def test_the_owner_s_own_start_policy_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_policy: Path
) -> None:
    """Container images bring one; it may say more than ours."""
    start_policy.write_text("theirs")
    put_apt_get(tmp_path, monkeypatch, "true")

    package.install_package("redis-server")

    assert "theirs" == start_policy.read_text()


def test_a_failed_installation_shows_what_apt_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_policy: Path
) -> None:
    """Without the network the reason is apt's to tell."""
    put_apt_get(tmp_path, monkeypatch, "echo cannot resolve deb.debian.org; exit 100")

    with pytest.raises(ServerFailed, match="ended with status 100") as caught:
        package.install_package("redis-server")

    assert "cannot resolve deb.debian.org" in str(caught.value)
    assert not start_policy.exists()
