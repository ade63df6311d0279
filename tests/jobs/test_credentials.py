"""The token that this machine's own clusters ask for: made once, and for its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sweeps.jobs.credentials import ensure_token
from sweeps.jobs.errors import JobError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_where_there_is_none(home: Path) -> None:
    told: list[str] = []
    token = ensure_token(os.environ, home, told.append).value
    file = home / ".ray" / "auth_token"
    assert len(token) == 64
    assert file.read_text() == token
    assert mode(file) == 0o600
    assert str(file) in told[0]
    assert token not in told[0]
    assert ensure_token(os.environ, home, told.append).value == token
    assert len(told) == 1


def test_a_token_that_others_could_read_is_made_ours(home: Path) -> None:
    told: list[str] = []
    (home / ".ray").mkdir()
    file = home / ".ray" / "auth_token"
    file.write_text("abc\n")
    file.chmod(0o644)
    assert ensure_token(os.environ, home, told.append).value == "abc"
    assert mode(file) == 0o600
    assert "0644" in told[0]


def test_where_a_token_is_looked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = home / "elsewhere" / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    token = ensure_token(os.environ, home, lambda text: None).value
    assert named.read_text() == token
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert ensure_token(os.environ, home, lambda text: None).value == "given"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    named.write_text(" \n")
    with pytest.raises(JobError, match="empty"):
        ensure_token(os.environ, home, lambda text: None)
    named.unlink()
    named.mkdir()
    with pytest.raises(JobError, match=str(named)):
        ensure_token(os.environ, home, lambda text: None)
