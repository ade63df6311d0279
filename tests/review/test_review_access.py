"""Who may ask the review server: real processes, real sockets."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from reviewing import server

from sweeps.review.access import is_loopback

TOKEN = "0123456789abcdef0123"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def refused(*arguments: str) -> tuple[int, str]:
    code = "from sweeps.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "review", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_an_address_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    code, message = refused(str(tmp_path), "--host", "0.0.0.0")
    assert code == 2
    assert "--token-file" in message


def test_a_token_file_is_for_its_owner_alone(tmp_path: Path, token_file: Path) -> None:
    options = [str(tmp_path), "--host", "0.0.0.0", "--token-file", str(token_file)]
    token_file.chmod(0o644)
    code, message = refused(*options)
    assert (code, "others may read it" in message) == (2, True)
    token_file.chmod(0o600)
    token_file.write_text("short\n")
    code, message = refused(*options)
    assert (code, "holds no token" in message) == (2, True)
    token_file.unlink()
    code, message = refused(*options)
    assert (code, "no such token file" in message) == (2, True)


def test_a_folder_or_an_address_that_is_not_there_is_told(tmp_path: Path, address: str) -> None:
    assert refused(str(tmp_path / "nothing"))[0] == 4
    code, message = refused(str(tmp_path), "--port", address.rsplit(":", 1)[1])
    assert (code, "--port" in message) == (2, True)
    code, message = refused(str(tmp_path), "--host", "no.such.host.invalid", "--token-file", "x")
    assert code == 2


def test_whoever_has_the_token_may_ask(folder: Path, token_file: Path) -> None:
    with server(folder, "--host", "0.0.0.0", "--token-file", str(token_file)) as address:
        address = address.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=address, timeout=30) as client:
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": f"Basic {TOKEN}"},
                {"Cookie": f"tracerank={TOKEN}"},
                {"Authorization": "Bearer"},
            ):
                for path in ("/api/runs", "/", "/runs/first/", "/assets/runs.js", "/api/nothing"):
                    assert client.get(path, headers=headers).status_code == 401
            assert client.post("/api/runs/first/decisions", json={}).status_code == 401
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            assert client.get("/api/runs", headers=bearer).status_code == 200


def test_a_browser_signs_in_once(folder: Path, token_file: Path) -> None:
    with (
        server(folder, "--token-file", str(token_file)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        page = {"Accept": "text/html"}
        for style in re.findall(r'rel="stylesheet" href="([^"]+)"', client.get("/login").text):
            assert client.get(style).status_code == 200
        sent_on = client.get("/", headers=page)
        assert (sent_on.status_code, sent_on.headers["location"]) == (303, "/login")
        wrong = client.post("/login", data={"token": "wrong"})
        assert (wrong.status_code, client.cookies) == (401, httpx.Cookies())
        right = client.post("/login", data={"token": TOKEN})
        assert right.status_code == 303
        cookie = right.headers["set-cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/", headers=page).status_code == 200
        assert client.get("/api/runs").status_code == 200


def test_a_name_that_leads_here_from_elsewhere_is_refused(client: httpx.Client) -> None:
    for host in ("evil.example", "evil.example:8631", "127.0.0.1.evil.example", "", "[::1"):
        assert client.get("/api/runs", headers={"Host": host}).status_code == 403
    for host in ("localhost:1", "127.0.0.1", "[::1]:8631"):
        assert client.get("/api/runs", headers={"Host": host}).status_code == 200


def test_a_page_of_another_site_may_not_write(client: httpx.Client) -> None:
    path = "/api/runs/first/decisions"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://["):
        assert client.post(path, json={}, headers={"Origin": origin}).status_code == 403
    form = client.post(path, data={"model_id": "x"})
    assert form.status_code == 422


def test_a_request_that_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/api/runs/first/decisions", json={"reason": "x" * 1_000_000})
    assert answer.status_code == 413
    chunks = (b"x" * 1000 for _ in range(3))
    assert client.post("/api/runs/first/decisions", content=chunks).status_code == 411


def test_every_answer_tells_the_browser_to_be_careful(client: httpx.Client) -> None:
    for path in ("/", "/api/runs", "/runs/first/", "/nothing", "/runs/nothing/"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        if "html" in headers["content-type"]:
            assert "default-src 'none'" in headers["content-security-policy"]


def test_ipv6_and_names_of_this_machine_are_loopback() -> None:
    assert all(
        map(is_loopback, ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost", "a.localhost"])
    )
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.com", ""]))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_certificate_or_a_key_of_no_use_is_named(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-passout",
        "pass:secret",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    code, message = refused(str(tmp_path), "--tls", str(certificate), str(key))
    assert (code, "passphrase" in message) == (2, True)
    code, message = refused(str(tmp_path), "--tls", str(key), str(certificate))
    assert (code, f"{key} and {certificate} are no certificate" in message) == (2, True)


def test_who_never_ends_a_request_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    # Leaving the server terminates it, and waits 20 s at most.
    with socket.socket() as waiting, server(tmp_path) as address:
        host, port = address.removeprefix("http://").split(":")
        waiting.connect((host, int(port)))
        head = "POST /login HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 9", "", ""
        waiting.sendall("\r\n".join(head).encode())
        assert httpx.get(address).status_code == 200


def test_who_breaks_the_protocol_leaves_no_trace(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server(tmp_path) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head + b"-1\r\nab\r\n0\r\n\r\n")
            while connection.recv(65536):
                pass
        assert httpx.get(f"{address}/api/runs").status_code == 200
    assert "Traceback" not in capfd.readouterr().err
