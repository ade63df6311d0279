"""Run directories of which one file holds something else: valid JSON of another shape, a journal
with other lines, a table that is none; read by all that reads a run directory.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sandbox
from fuzzing import Kind, Outcome, require_message
from hostile_values import json_values, mutated
from hypothesis import strategies as st
from inprocess import prepared, work_off

from search_spaces import SpaceError
from sweeps import api, decisions
from sweeps.config import ConfigError
from sweeps.decisions import DecisionError
from sweeps.listing import listing
from sweeps.results import report_run
from sweeps.review.errors import MissingError
from sweeps.review.runs import Runs
from sweeps.run_directory import RunDirectory, RunDirectoryError
from trace_core import TraceError

Draw = Callable[..., Any]

TOLD = (
    RunDirectoryError,
    ConfigError,
    TraceError,
    DecisionError,
    SpaceError,
    ConnectionError,
    OSError,
)
"""What the commands tell in words."""


@functools.cache
def good() -> Path:
    """A finished run directory, with a decision."""
    path = sandbox.root() / "finished"
    run, config = prepared(path, trials=3, replicates=2)
    work_off(run, config)
    report_run(run)
    model = json.loads((run.report / "ranking.json").read_text())["models"]
    if model:
        decisions.decide(run, model[0]["model_id"], "Ada", "so")
    return path


@functools.cache
def files() -> list[str]:
    """What is in it, the rarer kinds as often as the many."""
    found = sorted(str(p.relative_to(good())) for p in good().rglob("*") if p.is_file())
    traces = [name for name in found if name.startswith("traces")]
    others = [name for name in found if not name.startswith("traces")]
    wanted = [name for name in others if not name.endswith((".html", ".md", ".csv", ".lock"))]
    return [*wanted, *[name for name in wanted if "journal" in name] * 4, *traces[:4]]


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, bytes | None]:
    """A file's name and what it holds; None where it is gone."""
    ways = [*["inside"] * 6, *["record"] * 4, "flip", "cut", "empty", "gone", "other", "text"]
    way = draw(st.sampled_from(ways))
    records = [name for name in files() if name.startswith("traces") and name.endswith(".json")]
    name = draw(st.sampled_from(records if way == "record" else files()))
    data = (good() / name).read_bytes()
    if way == "record":
        return name, _dumped(draw(_odd_records(json.loads(data))), data)
    if way == "gone":
        return name, None
    if way == "empty":
        return name, b""
    if way == "other":
        return name, (good() / draw(st.sampled_from(files()))).read_bytes()
    if way == "text":
        return name, draw(
            st.sampled_from(
                [b"{}", b"[]", b"null", b"3", b"[" * 99_999, b"\0", b"NaN\n", b"{}\n{}\n"]
            )
        )
    at = draw(st.integers(0, len(data) - 1)) if data else 0
    if way == "cut":
        return name, data[:at]
    if way == "flip" and data:
        return name, data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if name.endswith(".journal"):
        return name, _journal(data, draw)
    if name.endswith(".json"):
        return name, _dumped(draw(mutated(st.just(json.loads(data)), json_values)), data)
    return name, data + data[:at]


@st.composite
def _odd_records(draw: st.DrawFn, record: dict[str, Any]) -> dict[str, Any]:
    """A record as of an earlier version, without a seal, of which one value, or one of an entry of
    its history, is none that a training has.
    """
    record.pop("sha256", None)
    holder = record
    if record.get("history") and draw(st.booleans()):
        holder = draw(st.sampled_from(record["history"]))
    holder[draw(st.sampled_from(sorted(holder)))] = draw(
        st.sampled_from([0, -1, 1, 0.5, 10**15, 2**63, 10**400, math.nan, math.inf, 1e308, None])
        | st.sampled_from(["", "sideways", "FAILED", "PRUNED", "minimize", "../x"])
    )
    return record


def _dumped(value: Any, otherwise: bytes) -> bytes:
    try:
        return json.dumps(value).encode()
    except (ValueError, TypeError, RecursionError):
        return otherwise


def _journal(data: bytes, draw: Draw) -> bytes:
    """Lines changed, left out, repeated, or of other operations."""
    lines = data.splitlines()
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        at = draw(st.integers(0, len(lines) - 1))
        way = draw(
            st.sampled_from(["change", "change", "change", "gone", "twice", "swap", "op", "text"])
        )
        if way == "change":
            lines[at] = _dumped(
                draw(mutated(st.just(json.loads(lines[at])), json_values)), lines[at]
            )
        elif way == "gone" and len(lines) > 1:
            del lines[at]
        elif way == "twice":
            lines.insert(at, lines[at])
        elif way == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        elif way == "op":
            told = json.loads(lines[at]) | {"op_code": draw(st.integers(-1, 12))}
            lines[at] = _dumped(told, lines[at])
        else:
            lines[at] = draw(
                st.sampled_from([b"{}", b"3", b"", b"[", b"\xff", b'{"op_code": 99}', b"null"])
            )
            break
    return b"\n".join(lines) + b"\n"


def _ways(run: RunDirectory) -> list[Callable[[], Any]]:
    """All that reads a run directory."""
    return [
        lambda: api.load(run.path).trials,
        lambda: report_run(run),
        lambda: api.load(run.path).results(0.3),
        lambda: decisions.stands(run),
        lambda: listing("runs", run.path.parent),
    ]


def check(case: tuple[str, bytes | None]) -> Outcome:
    name, data = case
    folder = sandbox.scratch("runs")
    path = folder / "odd"
    shutil.copytree(good(), path)
    if data is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(data)
    # Of files that hold the scores the report would need no trace.
    if name.startswith("traces"):
        (path / "scores.npz").unlink()
    if name != "report/ranking.json":
        os.utime(path / "report" / "ranking.json", (0, 0))
    # Without its configuration a folder isn't a run directory.
    with contextlib.suppress(MissingError):
        summary = Runs(folder).summary("odd")
        assert "\x1b" not in json.dumps(summary.to_json(), ensure_ascii=False)
    refused = False
    for way in _ways(RunDirectory(path)):
        try:
            way()
        except TOLD as error:
            refused = True
            require_message(ValueError(" ".join(str(error).splitlines())), place=folder)
    return "refused" if refused else "accepted"


KINDS = [Kind("files of run directories", damages(), check, 0.02, good)]
