"""Files in a folder, in an S3-compatible server, and in a file system of fsspec's."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from sweeps.jobs.store import StorageError, StorageUriError, Store


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3-compatible server on this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        import boto3

        boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1"
        ).create_bucket(Bucket="sweeps")
        yield f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    server.stop()


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "some where")
    if request.param == "memory":
        return Store(f"memory://{secrets.token_hex(4)}/runs")
    return Store(f"s3://sweeps/{secrets.token_hex(4)}?{request.getfixturevalue('s3')}")


def test_what_is_written_is_read(store: Store) -> None:
    assert store.files() == {}
    store.write("a.txt", b"first")
    store.write("a.txt", b"second")
    store.write("traces/b.npz", b"x" * 6_000_000)
    assert store.read("a.txt") == b"second"
    assert store.read("traces/b.npz") == b"x" * 6_000_000
    assert store.exists("traces/b.npz")
    assert not store.exists("traces")
    assert store.files() == {"a.txt": 6, "traces/b.npz": 6_000_000}
    assert store.files("traces") == {"traces/b.npz": 6_000_000}


def test_a_part_of_a_store_is_one(store: Store) -> None:
    inner = store.under("digits-1")
    inner.write("traces/c.json", b"{}")
    assert store.files() == {"digits-1/traces/c.json": 2}
    assert inner.files() == {"traces/c.json": 2}
    assert Store(inner.uri).read("traces/c.json") == b"{}"
    assert inner.files("none") == {}


def test_what_is_not_there(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    store.remove("nothing")
    assert not store.exists("nothing")
    store.write("d", b"")
    store.remove("d")
    assert not store.exists("d")


@pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a//b", "", "."])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the name of a file"):
        Store(tmp_path).write(name, b"")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "give a folder or a URI"),
        ("s3://me:secret@bucket/runs", "holds a secret"),
        ("s3://bucket/runs?secret_key=abc", "holds a secret"),
        ("abfs://c@account.dfs.core.windows.net/x?sas_token=abc", "holds a secret"),
        ("s3://bucket/runs?regoin=eu-west-1", "unknown option 'regoin'"),
        ("https://example.org/runs", "can't be written to"),
        ("s3:///runs", "names no bucket"),
        ("nonsense://host/runs", "Protocol not known"),
    ],
)
def test_addresses_that_are_none(uri: str, said: str) -> None:
    with pytest.raises(StorageUriError, match=said) as raised:
        Store(uri)
    assert "abc" not in str(raised.value).replace("sas_token", "")
    assert "me:secret" not in str(raised.value)


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    store = Store("s3://sweeps/x?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
    with pytest.raises(StorageError, match="cannot be reached"):
        store.files()
    with pytest.raises(StorageError, match="cannot be reached"):
        store.write("a", b"")


def test_a_bucket_that_is_not_there(s3: str) -> None:
    with pytest.raises(StorageError, match="cannot be reached"):
        Store(f"s3://nobody-made-this/x?{s3}").write("a", b"")


def test_a_folder_that_we_may_not_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be reached"):
        Store(tmp_path / "file").write("a", b"")
