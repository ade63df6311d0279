"""What a job is sent, and what isn't."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import yaml

from search_spaces import SpaceError
from sweeps.config import load_config
from sweeps.jobs import contents
from sweeps.jobs.contents import gather
from sweeps.jobs.errors import JobError
from sweeps.jobs.named import Named, named_files
from sweeps.jobs.package import PACKAGES, Package, pack

ROOT = Path(__file__).parents[2]


def make(folder: Path, *names: str, data: bytes = b"x") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def names(package: Package, under: str = "user/") -> set[str]:
    with zipfile.ZipFile(BytesIO(package.data)) as archive:
        return {name for name in archive.namelist() if name.startswith(under)}


def test_code_is_sent_and_what_it_made_is_not(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("models.py", "lib/layers.py", "conf/one.yaml", "Makefile", "run/mine.py"),
        *(".git/config", ".hg/store", ".env", ".venv/pyvenv.cfg", ".idea/x.xml"),
        *("env/pyvenv.cfg", "env/lib/site.py", "page/node_modules/a.js", "__pycache__/m.pyc"),
        *("lib/__pycache__/l.pyc", "old.pyc", "runs/a/sweep.yaml", "runs/a/study.journal"),
        *("runs/b/sweep.yaml", "runs/b/study.json", "runs/a/report/index.html"),
        *("data/images.npz", "weights.PT"),
    )
    found = gather(tmp_path)
    assert set(found.files) == {
        *("models.py", "lib/layers.py", "conf/one.yaml", "Makefile", "run/mine.py")
    }
    assert found.left_out == {"data/images.npz": 1, "weights.PT": 1}
    assert not found.skipped


@pytest.mark.parametrize(
    ("include", "exclude", "more", "less"),
    [
        (["*.npz"], [], {"data/images.npz"}, set()),
        (["data/*.npz"], [], {"data/images.npz"}, set()),
        (["data"], [], {"data/images.npz"}, set()),
        (["./data/"], [], {"data/images.npz"}, set()),
        ([".cache/words.txt"], [], {".cache/words.txt"}, set()),
        ([".cache/*"], [], {".cache/words.txt"}, set()),
        (["*.txt"], [], set(), set()),
        (["runs/a/sweep.yaml"], [], {"runs/a/sweep.yaml"}, set()),
        ([], ["lib"], set(), {"lib/layers.py"}),
        ([], ["*.py"], set(), {"models.py", "lib/layers.py"}),
        ([], ["lib/*.py"], set(), {"lib/layers.py"}),
        (["*.npz"], ["data/*"], set(), set()),
    ],
)
def test_patterns_overrule(
    include: list[str], exclude: list[str], more: set[str], less: set[str], tmp_path: Path
) -> None:
    make(
        tmp_path,
        *("models.py", "lib/layers.py", "data/images.npz", ".cache/words.txt", ".cache/.x/y.txt"),
        *("runs/a/sweep.yaml", "runs/a/study.journal"),
    )
    usual = {"models.py", "lib/layers.py"}
    found = set(gather(tmp_path, include, exclude).files) - {".cache/.x/y.txt"}
    assert found == (usual | more) - less


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_what_git_ignores_is_not_sent(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    make(inner, "part.py", "part.log")
    (inner / ".gitignore").write_text("*.log\n")
    git(inner, "init", "-q")
    git(inner, "add", "part.py", ".gitignore")
    git(inner, "commit", "-qm", "one")
    make(outer, "kept.py", "new.py", "big/a.py", "big/deep/b.py", "kept.log", "other.log")
    (outer / ".gitignore").write_text("*.log\nbig/\n")
    git(outer, "init", "-q")
    git(outer, "add", "kept.py")
    git(outer, "add", "-f", "kept.log")
    git(outer, "submodule", "add", "-q", str(inner), "module")
    make(outer / "module", "x.log")
    told: list[str] = []
    # A module's own rules are not asked for.
    found = set(gather(outer, note=told.append).files) - {"module/x.log"}
    assert found == {"kept.py", "new.py", "kept.log", "module/part.py"}
    assert set(gather(outer / "big").files) <= {"a.py", "deep/b.py"}
    more = set(gather(outer, ["big/deep/*.py"]).files)
    assert "big/deep/b.py" in more
    assert "big/a.py" not in more
    assert not told


def test_without_git_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.py")
    git(tmp_path, "init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []
    assert set(gather(tmp_path, note=told.append).files) == {"a.py"}
    assert "git isn't installed" in told[0]


def test_links_loops_and_what_is_no_file(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    make(folder, "a.py", "deep/b.py")
    make(outside, "secret.py")
    (folder / "out").symlink_to(outside)
    (folder / "out.py").symlink_to(outside / "secret.py")
    (folder / "gone.py").symlink_to(folder / "nowhere.py")
    (folder / "again.py").symlink_to(folder / "a.py")
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "same").symlink_to(folder / "deep")
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe")
    os.close(os.open(os.fsencode(folder) + b"/\xff.py", os.O_CREAT | os.O_WRONLY))
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "socket"))
    found = gather(folder)
    assert set(found.files) == {"a.py", "again.py", "deep/b.py", "same/b.py"}
    assert set(found.skipped) == {"out", "out.py", "gone.py", "pipe", "socket", "self"}


def test_the_same_content_has_the_same_name_and_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        make(tmp_path / folder, "b.py", "a.py", "c/d.py")
    os.utime(tmp_path / "two" / "a.py", (1, 1))
    (tmp_path / "two" / "a.py").chmod(0o755)
    one, two = (pack("name: x\n", [tmp_path / folder]) for folder in ("one", "two"))
    assert one == two
    assert one.name.startswith("_ray_pkg_")
    assert len(one.name) == len("_ray_pkg_0123456789abcdef.zip")
    assert pack("name: y\n", [tmp_path / "one"]).name != one.name
    make(tmp_path / "two", "a.py", data=b"y")
    assert pack("name: x\n", [tmp_path / "two"]).name != one.name


def test_a_package_runs_by_itself(tmp_path: Path) -> None:
    make(tmp_path / "mine", "models.py")
    package = pack("name: x\n", [tmp_path / "mine"])
    assert package.import_path == ("user/0",)
    assert names(package) == {"user/0/models.py"}
    with zipfile.ZipFile(BytesIO(package.data)) as archive:
        archive.extractall(tmp_path / "there")
    there = tmp_path / "there"
    assert (there / "sweep.yaml").read_text() == "name: x\n"
    assert list((there / "sweeps" / "report" / "page").glob("*.html"))
    assert not list(there.rglob("node_modules"))
    code = f"import {', '.join(PACKAGES)}; import sweeps.cli; print(sweeps.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=there, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(there))


def test_no_folder_and_no_package_of_ours_twice(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "examples/b.py", "hidden/.venv/pyvenv.cfg")
    (tmp_path / "link").symlink_to(tmp_path / "examples")
    twice = pack("", [tmp_path, tmp_path / "examples" / "..", tmp_path])
    assert twice.import_path == ("user/0",)
    nested = pack("", [tmp_path / "examples", tmp_path])
    assert nested.import_path == ("user/1/examples", "user/1")
    assert names(nested) == {"user/1/a.py", "user/1/examples/b.py", "user/1/link/b.py"}
    apart = pack("", [tmp_path / "examples", tmp_path], exclude=["a.py"])
    assert apart.import_path == ("user/1/examples", "user/1")
    ours = pack("", [ROOT])
    assert not {name for name in names(ours) if name.split("/")[2] in PACKAGES}
    assert "user/0/pyproject.toml" in names(ours)


def test_too_large_a_package_is_refused_with_the_largest(tmp_path: Path) -> None:
    for number in range(7):
        make(tmp_path, f"part{number}.txt", data=b"x" * 100_000 * (number + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.jobs.package.MOST_BYTES", 2_000_000)
        with pytest.raises(JobError) as caught:
            pack("", [tmp_path])
    text = str(caught.value)
    assert [f"part{number}.txt" in text for number in range(7)] == [False] * 2 + [True] * 5
    assert "683.6 KiB" in text
    assert "--exclude" in text
    pack("", [tmp_path], exclude=["part*.txt"])


def test_data_that_is_left_out_is_named(tmp_path: Path) -> None:
    make(tmp_path, "train.csv", data=b"x" * 2048)
    told: list[str] = []
    pack("", [tmp_path], note=told.append)
    assert "train.csv (2.0 KiB)" in told[0]
    assert "--include" in told[0]


def test_a_folder_of_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MOST_FILES", 3)
    make(tmp_path, "a.py", "b.py", "c.py")
    gather(tmp_path)
    make(tmp_path, "d.py")
    with pytest.raises(JobError, match="more than 3 files"):
        gather(tmp_path)


def named_by(folder: Path, checkpoints: list[str], file: str = "data/reviews.csv") -> Named:
    given = {
        "name": "named",
        "task": {"text_classification": {"file": file}},
        "budget": {"epochs": 3, "batch_size": 8},
        "space": {"architecture": {"pretrained": {"checkpoint": checkpoints}}},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(given))
    return named_files(load_config(folder / "sweep.yaml"))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, checkpoints, and other files of their kinds; it is the current one."""
    make(
        tmp_path,
        *("work/data/reviews.csv", "work/data/others.csv", "work/models.py"),
        *("work/tiny/model.safetensors", "work/tiny/tokenizer.json", "work/tiny/optimizer.pt"),
        *("work/.kept/net.pt", "work/other.pt", "elsewhere/big.csv"),
    )
    work = tmp_path / "work"
    (work / "tiny" / "config.json").write_text('{"vocab_size": 40}')
    (work / "linked.csv").symlink_to(tmp_path / "elsewhere" / "big.csv")
    monkeypatch.chdir(work)
    return work


def test_what_the_configuration_names_is_sent(work: Path) -> None:
    checkpoints = ["tiny", "scratch:tiny", "./.kept/net.pt", "pkg:absent/model", "timm:resnet18"]
    found = named_by(work, [*checkpoints, "someone/on-the-hub", "/models/large"])
    assert found.absolute == ("/models/large",)
    told: list[str] = []
    sent = names(pack("", [work], note=told.append, named=found.relative))
    assert sent == {
        *("user/0/data/reviews.csv", "user/0/models.py", "user/0/sweep.yaml"),
        *("user/0/tiny/config.json", "user/0/tiny/model.safetensors"),
        *("user/0/tiny/tokenizer.json", "user/0/.kept/net.pt"),
    }
    (left, skipped) = told
    assert "others.csv" in left
    assert "reviews.csv" not in left
    assert "linked.csv" in skipped
    found.tell_nodes(told.append)
    assert "every node of the cluster must have it: /models/large" in told[-1]
    found.tell_image(told.append)
    assert "by that path: /models/large" in told[-2]
    assert "PYTHONPATH: data/reviews.csv, tiny, ./.kept/net.pt" in told[-1]


def test_a_link_that_is_named_brings_what_it_leads_to(work: Path) -> None:
    package = pack("", [work], named=named_by(work, ["scratch:tiny"], "linked.csv").relative)
    assert "user/0/linked.csv" in names(package)
    assert "user/0/tiny/model.safetensors" not in names(package)


def test_who_leaves_out_what_is_named_is_obeyed(work: Path) -> None:
    found = named_by(work, ["tiny"])
    assert "user/0/data/reviews.csv" not in names(
        pack("", [work], exclude=["data"], named=found.relative)
    )


def test_what_is_named_outside_of_what_is_sent_is_refused(work: Path) -> None:
    found = named_by(work, ["tiny"], "../elsewhere/big.csv")
    with pytest.raises(JobError, match=r"\.\./elsewhere/big\.csv: lies at .*by an absolute path"):
        pack("", [work], named=found.relative)
    with pytest.raises(SpaceError, match=r"task\.text_classification\.file: no file .*nowhere"):
        named_by(work, ["tiny"], "nowhere.csv")


def test_too_large_a_checkpoint_is_told_where_to_be(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(work, "tiny/model.safetensors", data=b"x" * 3_000_000)
    monkeypatch.setattr("sweeps.jobs.package.MOST_BYTES", 2_000_000)
    with pytest.raises(JobError) as caught:
        pack("", [work], named=named_by(work, ["tiny"]).relative)
    text = str(caught.value)
    assert f"2.9 MiB  {work}/tiny/model.safetensors" in text
    assert "where all nodes can read them" in text
    assert "Hugging Face hub" in text
