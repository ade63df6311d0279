"""Each benchmark runs, with settings so small that its figures mean nothing."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import (
    __main__,
    checkpoints,
    engines,
    growth,
    memory,
    overhead,
    pass_cost,
    peers,
    polling,
    replays,
    report,
    start,
    timing,
    together,
    trainings,
)
from trace_core import kernel


def cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table below its head, checked to be as wide as the head."""
    head, rule, *body = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    assert set("".join(rule)) == {"-"}
    assert body
    assert all(len(row) == len(head) for row in body)
    return body


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise peers.UnavailableError("not installed")

    monkeypatch.setattr(peers, "_load", missing)


@pytest.mark.usefixtures("no_peers")
def test_overhead_of_every_case_without_the_peers() -> None:
    small = {case.name: case for case in trainings.CASES}
    for name in small:
        if name.startswith("transformer"):
            adam = "AdamW" in name
            small[name] = replace(
                small[name],
                make=lambda adam=adam: trainings.transformer(
                    torch.optim.AdamW if adam else torch.optim.SGD, 1e-4, width=64, depth=1
                ),
            )
    cases = [replace(case, threads=1, blocks=2, block_seconds=1e-4) for case in small.values()]
    threads = torch.get_num_threads()
    rows = cells(overhead.table(cases))
    assert torch.get_num_threads() == threads
    assert [row[0] for row in rows] == [case.name for case in trainings.CASES]
    assert rows[0][1] == "241"
    for row in rows:
        *measured, update_size, economy, wandb = row[4:]
        assert {update_size, economy, wandb} == {"not installed"}
        assert all(re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\)", cell) for cell in measured)


@pytest.mark.filterwarnings("ignore")  # the peers' own
def test_every_way_of_stepping_trains_alike() -> None:
    """What a way adds must not change the training, or the ratio would compare two of them."""

    def trained(way: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        training = trainings.article_mlp()
        with overhead.WAYS[way](training) as step:
            while training.taken < 12:
                step()
        return [parameter.detach() for parameter in training.model.parameters()]

    plain = trained(overhead.PLAIN)
    for way in overhead.WAYS:
        try:
            found = trained(way)
        except peers.UnavailableError:
            continue
        for expected, tensor in zip(plain, found, strict=True):
            torch.testing.assert_close(tensor, expected, rtol=1e-12, atol=0)


def test_pass_cost() -> None:
    sizes = [(100, 1), (10_000, 100)]
    rows = cells(pass_cost.table(sizes, blocks=2, block_seconds=1e-4))
    passes = ["torch"] if kernel.library() is None else ["compiled", "torch"]
    assert [row[2] for row in rows] == passes * len(sizes)
    assert kernel.VARIABLE not in os.environ


def test_a_pass_is_of_the_kernel_that_its_row_names() -> None:
    before = kernel.describe()
    with pass_cost._passes("torch"):
        assert kernel.describe() == "torch"
    assert kernel.describe() == before


def test_memory_counts_the_copies() -> None:
    sketched, exact = cells(memory.table(tensors=8, width=512))
    # With 8 MiB of parameters what is fixed shows; the copies must be there all the same.
    assert 1 <= float(sketched[4]) < float(exact[4])
    assert float(exact[4]) >= 2


def test_start() -> None:
    rows = cells(start.table(repeats=1))
    assert [row[0] for row in rows] == [*start.PARTS.values(), "in all"]


def test_checkpoints() -> None:
    ((files, copied, scored, share, memory),) = cells(checkpoints.table(16, 500, blocks=1))
    assert files.startswith("5 of 0.")
    assert "GB/s" in copied
    assert "GB/s" in scored
    assert re.match(r"\d+\.\d\d \(aim", share)
    assert float(memory.split()[0]) < 200


@pytest.mark.slow
def test_engines() -> None:
    config = engines.configuration(4, 2, "random")
    trainings = engines.trainings_of(config)
    assert len(set(trainings)) == 4
    # Tune's own ways, which take the longest to start, are the benchmark's alone.
    for name in ("bare", "tracerank", "optuna_alone"):
        measured = engines.measure(name, config, trainings)
        assert measured.count == 4, name
        assert 0 < measured.inside < engines.WORKERS * measured.total + 1
        assert measured.start > 0


def test_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "BLOCKS", 2)
    rows = cells(replays.table([("random", 4), ("tpe", 14)]))
    assert [row[:3] for row in rows] == [
        [sampler, storage, trials]
        for sampler, trials in (("random", "4"), ("tpe", "14"))
        for storage in replays.STORAGES
    ]


@pytest.mark.slow
def test_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(iter(growth.MODELS))
    monkeypatch.setattr(growth, "MODELS", {first: growth.MODELS[first]})
    table = growth.table((2, 30), trainings=1)
    memory, disk = (cells(part) for part in table.split("\n\n"))
    assert [row[0] for row in memory] == ["2 to 30, all trained", "2 to 30, all but 20 replayed"]
    assert [row[0] for row in disk] == [first]
    assert 10 < float(disk[0][1].removesuffix(" KB")) < 1000


def test_together() -> None:
    cases = [("mlp", {"hidden": 4, "depth": 1}), ("cnn", {"channels": 2, "depth": 1})]
    (_, *mlp), (_, *cnn) = cells(together.table(cases, blocks=2, block_seconds=1e-4))
    assert mlp[-1] == "yes"
    assert cnn[-1] == "no: convolution is no faster together"
    assert all(re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\)", cell) for cell in mlp[1:-1])


@pytest.mark.slow
def test_polling() -> None:
    rows = cells(polling.table(clients=(3,), seconds=3))
    assert [row[0] for row in rows] == ["3"]
    assert float(rows[0][1].partition("%")[0]) > 0


@pytest.mark.slow
def test_report(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("COMMANDS", 1), ("OPENED", 1), ("STEPS", 3)):
        monkeypatch.setattr(report, name, count)
    built, opened = (cells(part) for part in report.table(12).split("\n\n"))
    assert [row[0] for row in built] == [*report.STAGES, "`tracerank report`, in all"]
    page, *browsed = [row[0] for row in opened]
    assert page == "index.html"
    assert browsed in (["interactive after", "a step of α", "JS heap"], ["in a browser"])


def test_results_are_written_when_all_their_parts_were_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {name: (name.title(), lambda name=name: f"| {name} |") for name in __main__.BENCHMARKS}
    monkeypatch.setattr(__main__, "BENCHMARKS", made)
    __main__.main(["overhead", "memory"], tmp_path)
    assert not list(tmp_path.iterdir())
    assert "| memory |" in capsys.readouterr().out
    __main__.main(list(made), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(__main__.FILES)
    assert "| pass_cost |" in (tmp_path / "tracer.md").read_text()


def test_steps_take_turns_in_whole_periods() -> None:
    calls = {"often": 0, "in tens": 0}

    def count(name: str) -> None:
        calls[name] += 1

    found = timing.take_turns(
        {name: lambda name=name: count(name) for name in calls},
        blocks=3,
        block_seconds=1e-5,
        limit=60,
        periods={"in tens": 10},
    )
    assert all(len(seconds) == 3 for seconds in found.values())
    # One call to warm up and one to time it, then whole periods.
    assert (calls["in tens"] - 2) % 10 == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.00 µs"),
        (12.34, "12.3 s"),
        (0.1234, "123 ms"),
        (4.5e-6, "4.50 µs"),
        (-2e-3, "-2.00 ms"),
    ],
)
def test_durations_have_three_digits(seconds: float, words: str) -> None:
    assert timing.duration(seconds) == words


def test_blocks_stop_at_the_limit() -> None:
    found = timing.take_turns({"step": lambda: None}, blocks=50, block_seconds=1e-6, limit=0)
    assert len(found["step"]) == timing.FEWEST
