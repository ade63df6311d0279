"""Which cluster, and which token."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sweeps.jobs.address import DEFAULT, find_address
from sweeps.jobs.credentials import Token, find_token
from sweeps.jobs.errors import JobError


@pytest.mark.parametrize(
    ("given", "environment", "url", "source"),
    [
        (None, {}, DEFAULT, "the default"),
        ("host:8265", {"TRACERANK_ADDRESS": "other:1"}, "http://host:8265", "--address"),
        (None, {"TRACERANK_ADDRESS": "a:1", "RAY_ADDRESS": "http://b:2"}, "http://a:1", "TRACE"),
        (None, {"RAY_API_SERVER_ADDRESS": "http://a:1"}, "http://a:1", "RAY_API_SERVER_ADDRESS"),
        (None, {"RAY_ADDRESS": "https://b:2/"}, "https://b:2", "RAY_ADDRESS"),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, DEFAULT, "the default"),
        (None, {"RAY_ADDRESS": "auto"}, DEFAULT, "the default"),
        (None, {"TRACERANK_ADDRESS": " "}, DEFAULT, "the default"),
        ("https://ray.example/team/a/", {}, "https://ray.example/team/a", "--address"),
        ("http://[::1]:8265", {}, "http://[::1]:8265", "--address"),
        ("[::1]:8265", {}, "http://[::1]:8265", "--address"),
        (" HTTP://Host:8265 ", {}, "http://host:8265", "--address"),
    ],
)
def test_where_an_address_comes_from(
    given: str | None, environment: dict[str, str], url: str, source: str
) -> None:
    found = find_address(given, environment)
    assert found.url == url
    assert found.source.startswith(source)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "names no host"),
        ("host", "names no port"),
        ("host:", "names no port"),
        (":8265", "names no host"),
        ("host:port", "not a number"),
        ("host:99999", "not a number"),
        ("host:0", "names no port"),
        ("ray://host:10001", "Ray Client"),
        ("ftp://host:1", "ftp://"),
        ("auto", "names no port"),
        ("host:1/path", "needs http"),
        ("http://host:1/?a=b", "? or #"),
        ("http://ho st:1", "names no host"),
        ("http://host:1/a b", "character"),
        ("http://me:secret@host:1", "name or password"),
        ("http://[::1", "port"),
    ],
)
def test_bad_addresses(text: str, word: str) -> None:
    with pytest.raises(JobError) as caught:
        find_address(text, {})
    assert word in str(caught.value)
    assert "HOST:PORT" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_which_addresses_are_this_machines() -> None:
    assert [find_address(text, {}).loopback for text in ("localhost:1", "127.0.0.9:1", "b:1")] == [
        True,
        True,
        False,
    ]


def find(given: Path | None, environment: dict[str, str], home: Path) -> tuple[Token | None, str]:
    told: list[str] = []
    return find_token(given, environment, home, told.append), " ".join(told)


def test_tokens_are_looked_for_in_rays_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    assert find(None, {}, home) == (None, "")
    for name in ("usual", "named", "given"):
        (tmp_path / name).write_text(f"the-{name}-token\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "usual").rename(home / ".ray" / "auth_token")
    values = []
    for given, environment in (
        (None, {}),
        (None, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "named")}),
        (
            None,
            {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "named"), "RAY_AUTH_TOKEN": "the-inline-token "},
        ),
        (tmp_path / "given", {"RAY_AUTH_TOKEN": "the-inline-token"}),
    ):
        token, told = find(given, environment, home)
        assert token is not None
        assert not told
        assert token.value not in repr(token)
        values.append(token.value)
    assert values == [f"the-{name}-token" for name in ("usual", "named", "inline", "given")]


def test_a_token_that_others_can_read_is_made_ours(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("some-token")
    file.chmod(0o644)
    token, told = find(file, {}, tmp_path)
    assert token is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "0600" in told
    assert "some-token" not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_strangers_token_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("some-token")
    file.chmod(0o644)
    os.chown(file, 4321, 4321)
    with pytest.raises(JobError, match="not yours"):
        find(file, {}, tmp_path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"two words", "something else"),
        (b"a\r\nX-Evil: 1", "something else"),
        (b"\xff\xfe", "something else"),
        (b"a" * 100_000, "too large"),
    ],
)
def test_bad_tokens(content: bytes, word: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(JobError, match=word):
        find(file, {}, tmp_path)


def test_tokens_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, word in (("nowhere", "can't be read"), (".", "is not a file"), ("pipe", "not a fi")):
        with pytest.raises(JobError, match=word):
            find(tmp_path / name, {}, tmp_path)
        with pytest.raises(JobError, match=word):
            find(None, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / name)}, tmp_path)
