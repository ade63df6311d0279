"""Looks at run directories and checkpoints of others in every way there is, and tells which of the
things that run foreign code happened: ``python looking.py FOLDER RUN...`` prints JSON.

A process of its own, as what an audit hook has seen can't be taken back.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner
from hostile import BOMB, HIT, MODULE, bomb

import sweeps
from sweeps import decisions
from sweeps.cli import main
from sweeps.results import report_run
from sweeps.review.app import build_app
from sweeps.review.runs import Runs
from sweeps.run_directory import RunDirectory

seen: list[str] = []
watching = False

ALWAYS = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what runs something that wasn't here before."""
    if not watching:
        return
    if event in (*ALWAYS, "socket.connect"):
        seen.append(f"{event} {arguments!r:.300}")
    elif event == "import" and arguments[0] == MODULE:
        seen.append(f"import {MODULE}")
    elif event == "compile" and BOMB in str(arguments[0]):
        seen.append(f"compile {arguments[0]!r:.300}")
    elif event == "exec" and BOMB in repr((arguments[0].co_consts, arguments[0].co_names)):
        seen.append(f"exec {arguments[0]!r:.300}")


def trying(told: dict[str, str], name: str, look: Callable[[], object]) -> None:
    try:
        look()
    except Exception as error:  # Whatever a file holds, all that counts here is what ran.
        told[name] = f"{type(error).__name__}: {error}"[:300]
    else:
        told[name] = "done"


async def review(folder: Path, run: str, told: dict[str, str]) -> None:
    transport = httpx.ASGITransport(build_app(Runs(folder)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        model = "0" * 12
        answer = await client.get(f"/api/runs/{run}/ranking")
        told["GET ranking"] = str(answer.status_code)
        if answer.status_code == 200 and answer.json()["models"]:
            found = answer.json()
            model = found["models"][0]["model_id"]
            choice = {"model_id": model, "ranking": found["fingerprint"]}
            choice |= {"reviewer": "Ada", "reason": "so"}
            made = await client.post(f"/api/runs/{run}/decisions", json=choice)
            told["POST decisions"] = str(made.status_code)
        paths = ["/", "/api/runs", f"/runs/{run}/", f"/compare?a={run}&b={run}"]
        paths += [f"/runs/{run}/ranking.{kind}" for kind in ("json", "csv", "parquet")]
        paths += [f"/api/compare?a={run}&b={run}", f"/api/runs/{run}"]
        paths += [f"/api/runs/{run}/{what}" for what in ("live", "decisions", f"models/{model}")]
        for path in paths:
            told[f"GET {path}"] = str((await client.get(path)).status_code)


def look(folder: Path, run: str) -> dict[str, str]:
    told: dict[str, str] = {}
    directory = RunDirectory(folder / run)
    asyncio.run(review(folder, run, told))
    trying(told, "report", lambda: report_run(directory))
    trying(told, "load", lambda: sweeps.load(directory.path).results())
    trying(told, "show", lambda: repr(sweeps.load(directory.path)))
    trying(told, "decisions", lambda: decisions.stands(directory))
    asyncio.run(review(folder, run, told))
    runner = CliRunner()
    series = sorted(map(str, (folder / run / "checkpoints").glob("*")))
    commands = [["report", str(directory.path)], ["list", "runs"]]
    commands += [["score", *pair] for pair in itertools.pairwise(series)]
    commands += [["score", str(directory.path / "checkpoints")]] if series else []
    if "doctor" in main.commands:
        commands.append(["doctor", str(directory.path)])
    for words in commands:
        done = runner.invoke(main, words)
        told[" ".join(Path(word).name for word in words)] = str(done.exit_code)
    return told


if __name__ == "__main__":
    sys.addaudithook(hook)
    folder, *runs = sys.argv[1:]
    watching = True
    answers = {run: look(Path(folder), run) for run in runs if run != HIT}
    if HIT in runs:
        pickle.loads(bomb(Path(folder) / "hit"))
    watching = False
    print(json.dumps({"seen": seen, "told": answers}))
