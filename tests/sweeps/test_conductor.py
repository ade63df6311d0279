"""Which training is made, which is shared, and what the study is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from inprocess import conductor, ledger, make, make_all, prepared, work_off

from sweeps import records
from sweeps.candidate import Candidate, Training
from sweeps.cli import main
from sweeps.conductor import LOSSES
from sweeps.group import Group
from sweeps.ledger import counts
from sweeps.results import rank_run
from sweeps.run_directory import RunDirectoryError
from sweeps.scoring import score
from sweeps.selection import Study, read_trials
from sweeps.selection.storage import repair_journal
from sweeps.sweep import drive
from trace_core import Trace


def test_trials_that_differ_in_alpha_alone_are_one_training(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=60)
    work_off(run, config)
    table = ledger(run, config)
    assert len(table) == 60
    assert set(table["state"]) == {"COMPLETE"}
    assert table["model_id"].nunique() == 4
    assert len(list((run.path / "traces").glob("*.npz"))) == 4 * config.replicates
    assert counts(table)["trained"] == 4
    assert counts(table)["replayed"] == 56
    trained = table[~table["replayed"]]
    assert trained["ray"].str.split(",").map(len).eq(config.replicates).all()
    assert table[table["replayed"]]["ray"].eq("").all()


def test_a_replay_gives_the_figures_of_a_retraining(tmp_path: Path) -> None:
    run, config = prepared(
        tmp_path / "run", trials=12, objectives=["article_score", "metric"], replicates=1
    )
    work_off(run, config)
    replayed = [trial for trial in read_trials(run) if trial.details["replayed"]]
    assert replayed
    again, _ = prepared(tmp_path / "again", replicates=1)
    for trial in replayed:
        candidate, alpha = Candidate.from_parameters(config, trial.parameters)
        training = Training(candidate, 0)
        if not again.record(training.training_id).exists():
            make(again, training)
        trace = Trace.load(again.trace(training.training_id))
        record = records.load(again, training.training_id)
        assert record is not None
        article = trace.score(alpha=alpha, reading="article")
        metric = score(record, trace, config)["metric"]
        assert trial.values == pytest.approx([article, metric], rel=1e-12)


def test_a_training_in_flight_is_waited_for(tmp_path: Path) -> None:
    run, config = prepared(
        tmp_path / "run",
        replicates=1,
        trials=3,
        space={
            "architecture": {"mlp": {"hidden": 4, "depth": 1}},
            "alpha": {"float": [0.0, 1.0]},
            "learning_rate": 0.3,
        },
    )
    conducting = conductor(run, config, workers=2)
    work = conducting.next("a")
    assert work is not None
    while len(conducting.study) < 3:
        assert conducting.next("b") is None
    assert not conducting.complete
    make_all(run, work)
    conducting.ended("a")
    assert conducting.complete
    conducting.study.flush()
    assert ledger(run, config)["replayed"].tolist() == [False, True, True]


def test_a_failed_training_fails_its_trials_once_and_the_sweep_goes_on(tmp_path: Path) -> None:
    run, config = prepared(
        tmp_path / "run",
        trials=10,
        space={
            "architecture": {"mlp": {"hidden": 4, "depth": 1}},
            "learning_rate": [0.3, 1e30],
            "alpha": {"float": [0.0, 1.0]},
        },
    )
    work_off(run, config)
    table = ledger(run, config)
    failed = table[table["state"] == "FAILED"]
    assert 0 < len(failed) < 10
    assert failed["reason"].str.contains("diverged").all()
    assert counts(table)["COMPLETE"] == 10 - len(failed)
    # The second replicate of the diverging model is never begun.
    records_there = [json.loads(p.read_text()) for p in (run.path / "traces").glob("*.json")]
    assert len(records_there) == 3


def test_a_worker_that_dies_is_a_failed_record_with_its_message(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    conducting.ended("a")
    assert not run.record(work.ids[0]).exists()
    # Once or twice it may be chance: its trainings are given to others.
    for runner in ("a", "b"):
        conducting.died(runner, "Traceback\nOut of memory")
        work = conducting.next({"a": "b", "b": "c"}[runner])
        assert work is not None
    conducting.died("c", "Traceback\nOut of memory")
    conducting.study.flush()
    trial = read_trials(run)[0]
    assert trial.state == "FAILED"
    assert "the worker process died: Out of memory" in trial.details["reason"]
    record = records.load(run, work.ids[0])
    assert record is not None
    assert record.log_tail == "Traceback\nOut of memory"


def test_a_worker_lost_with_its_node_gives_its_trainings_back(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    for loss in range(LOSSES):
        conducting.ended(f"a{loss}" if loss else "a")
        conducting.died(f"a{loss}" if loss else "a", "its node has died", lost=True)
        again = conducting.next(f"a{loss + 1}")
        assert again is not None
        assert again.ids == work.ids
    assert not run.record(work.ids[0]).exists()
    # Nodes don't die that often: it may be what this training does to them.
    conducting.died(f"a{LOSSES}", "its node has died", lost=True)
    record = records.load(run, work.ids[0])
    assert record is not None
    assert record.state == "FAILED"


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("The actor died because its node has died. Node Id: 1f", True),
        (
            "The actor 68e7 is unavailable: The actor is temporarily unavailable: RpcError: RPC "
            "error: Socket closed rpc_code: 14. The task may or may not have been executed on it.",
            True,
        ),
        ("The actor died unexpectedly before finishing this task. exit_detail: SIGSEGV", False),
    ],
)
def test_what_ray_says_of_a_lost_node(said: str, lost: bool) -> None:
    from sweeps.execution.run import _node_lost

    assert _node_lost(said) == lost


def test_a_node_lost_after_the_record_was_stored_loses_nothing(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2, replicates=1)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    make_all(run, work)
    conducting.died("a", "its node has died", lost=True)
    conducting.study.flush()
    assert read_trials(run)[0].state == "COMPLETE"


def test_what_breaks_in_the_sweep_is_no_fault_of_a_training(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    conducting.broken = True
    assert conducting.exhausted
    conducting.ended("a")
    conducting.tick()
    assert records.load(run, work.ids[0]) is None


def test_a_worker_that_ended_some_of_its_trainings_gives_the_others_back(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=1, replicates=3)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    assert len(work.trainings) == 3
    make_all(run, replace(work, trainings=work.trainings[:1]))
    conducting.died("a", "killed")
    again = conducting.next("b")
    assert again is not None
    assert again.ids == work.ids
    assert again.ended == 1
    conducting.died("b", "killed")
    conducting.next("c")
    conducting.died("c", "killed")
    conducting.next("d")
    conducting.died("d", "killed")
    conducting.study.flush()
    assert read_trials(run)[0].state == "FAILED"


def test_a_worker_that_dies_after_its_record_counts_as_finished(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2, replicates=1)
    conducting = conductor(run, config)
    work = conducting.next("a")
    assert work is not None
    make_all(run, work)
    conducting.died("a", "killed")
    conducting.ended("a")
    conducting.study.flush()
    assert read_trials(run)[0].state == "COMPLETE"


def test_records_are_written_together_and_read_back_whole(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=8, replicates=1)
    conducting = conductor(run, config)
    begun = run.journal.read_bytes()
    for _ in range(3):
        number, _ = conducting.study.ask()
        conducting.study.tell(number, [0.5, 0.25, 1.0], {"model": "é"}, 0.1)
    assert run.journal.read_bytes() == begun
    conducting.study.flush()
    assert read_trials(run) == conducting.study.trials()
    written = run.journal.read_bytes()
    conducting.study.flush()
    assert run.journal.read_bytes() == written
    # What was not written is asked again, as it was.
    lost = conducting.study.ask()
    del conducting
    again = Study(run, config)
    assert len(again) == 3
    assert again.ask() == lost


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 5])
def test_an_interrupted_sweep_ends_as_an_undisturbed_one(tmp_path: Path, stop_after: int) -> None:
    undisturbed, config = prepared(tmp_path / "undisturbed")
    work_off(undisturbed, config)
    run, _ = prepared(tmp_path / "run")
    interrupted = work_off(run, config, at_most=stop_after)
    if stop_after == 3:
        assert interrupted.next("lost") is not None
    assert work_off(run, config).complete
    columns = ["state", "model_id", "alpha", "parameters", "trainings", "replayed", "metric"]
    expected, found = ledger(undisturbed, config)[columns], ledger(run, config)[columns]
    assert found.equals(expected)


def test_a_trial_killed_while_it_was_drawn_is_adopted_under_its_number(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run")
    conducting = conductor(run, config)
    conducting.next("a")
    conducting.study.flush()
    whole = run.journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    # Keep the making of the trial and its first parameter, and tear the line of the second.
    made = next(i for i, line in enumerate(lines) if b'"op_code":4' in line)
    run.journal.write_bytes(b"".join(lines[: made + 2]) + lines[made + 2][:9])
    (run.path / "study.journal.lock").symlink_to(run.journal)
    repair_journal(run.journal)
    study = Study(run, config)
    ((number, parameters),) = study.adopt()
    assert number == 0
    undisturbed, _ = prepared(tmp_path / "undisturbed")
    assert parameters == Study(undisturbed, config).ask()[1]


def test_every_architecture_and_initialisation_is_tried_first(tmp_path: Path) -> None:
    run, config = prepared(
        tmp_path / "run",
        trials=12,
        sampler={"name": "tpe", "seed": 3},
        space={
            "architecture": {"mlp": {}, "transformer": {"width": 8}},
            "init": ["default", "orthogonal", "small", "xavier_normal", "kaiming_uniform"],
            "alpha": {"float": [0.0, 1.0]},
            "learning_rate": 0.1,
        },
    )
    study = Study(run, config)
    first = [study.ask()[1] for _ in range(5)]
    assert {one["architecture"] for one in first} == {"mlp", "transformer"}
    assert [one["init"] for one in first] == list(config.space.dimensions["init"].values)


def test_what_a_complete_trial_lost_is_made_again(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run")
    work_off(run, config)
    files = {path: path.read_bytes() for path in (run.path / "traces").glob("*.npz")}
    lost = sorted(files)[::2]
    for path in lost:
        path.unlink()
    with pytest.raises(RunDirectoryError, match=r"missing; make it again with: tracerank resume"):
        rank_run(run)
    drive(run, config, workers=1, import_path=[])
    assert {path: path.read_bytes() for path in files} == files
    assert len(rank_run(run).replicates) == len(files)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("study.journal", b'{"op_code": 0}\n{broken}\n'),
        ("study.journal", None),
        ("environment.json", b"[]"),
        ("environment.json", b""),
        ("sweep.yaml", b"name: 3"),
        ("RECORD", b"{}"),
        ("RECORD", b"[1"),
        ("TRACE", b"PK"),
        ("TRACE", b""),
    ],
)
def test_a_damaged_run_directory_is_said_in_one_message(
    tmp_path: Path, file: str, damage: bytes | None
) -> None:
    run, config = prepared(tmp_path / "run", trials=2, replicates=1)
    work_off(run, config)
    named = {
        "RECORD": next(run.path.glob("traces/*.json")),
        "TRACE": next(run.path.glob("traces/*.npz")),
    }
    path = named.get(file, run.path / file)
    if damage is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damage)
    result = CliRunner().invoke(main, ["report", str(run.path)])
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert str(path) in result.stderr
    assert not run.report.exists()


def test_an_edited_configuration_is_refused(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2, replicates=1)
    work_off(run, config)
    run.configuration.write_text(config.dump().replace("batch_size: 32", "batch_size: 16"))
    for verb in ("report", "resume"):
        result = CliRunner().invoke(main, [verb, str(run.path)])
        assert result.exit_code == 2
        assert "budget changed since the sweep began" in result.stderr


def test_a_worker_that_told_of_its_death_isnt_given_another_chance(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=2, limits={"each_time": "20s"})
    conducting = conductor(run, config)
    words = {
        "a": ("Fatal Python error: Segmentation fault\n\nThread 0x1 (most recent call "
              "first):\n  File 'x', line 1 in waiting\n\nCurrent thread 0x2 (most recent call "
              "first):\n  File 'x', line 7 in forward\n\nExtension modules: numpy (total: 1)\n"),
        "b": "Timeout (0:00:25)!\nThread 0x2 (most recent call first):\n  File 'x', line 9 in go\n",
    }  # fmt: skip
    for runner, text in words.items():
        work = conducting.next(runner)
        assert work is not None
        run.last_words(runner).parent.mkdir(exist_ok=True)
        run.last_words(runner).write_text("hello" if runner == "a" else "")
        run.last_words(runner).with_suffix(".death").write_text(text)
        conducting.died(runner, "The actor is temporarily unavailable")
        assert not run.last_words(runner).exists()
        words[runner] = work.ids[0]
    crashed, hung = (records.load(run, words[runner]) for runner in "ab")
    assert crashed is not None
    assert hung is not None
    assert crashed.reason == "the worker process died of SIGSEGV (segmentation fault)"
    assert crashed.log_tail.splitlines()[0] == "hello"
    assert crashed.log_tail.splitlines()[-1].strip() == "File 'x', line 7 in forward"
    assert "waiting" not in crashed.log_tail
    assert hung.reason == "took longer than limits.each_time (20 s)"
    assert hung.log_tail.splitlines()[-1].strip() == "File 'x', line 9 in go"


def test_a_worker_that_dies_without_a_word_is_told_of_with_what_it_printed(tmp_path: Path) -> None:
    run, config = prepared(tmp_path / "run", trials=1, replicates=1)
    conducting = conductor(run, config)
    for runner in ("a", "b", "c"):
        work = conducting.next(runner)
        assert work is not None
        run.last_words(runner).parent.mkdir(exist_ok=True)
        run.last_words(runner).write_text("step 7\n")
        run.last_words(runner).with_suffix(".death").write_text("")
        conducting.died(runner, "Ray's word for it")
    record = records.load(run, work.ids[0])
    assert record is not None
    assert "died without a word, 3 times: killed, as by the system" in record.reason
    assert record.log_tail == "step 7\nRay's word for it"


def test_a_training_that_takes_too_long_fails_with_all_it_was_made_with(tmp_path: Path) -> None:
    for replicates, together in ((1, True), (3, True), (3, False)):
        run, config = prepared(
            tmp_path / f"run{replicates}{together}",
            trials=1,
            replicates=replicates,
            replicates_together=together,
            limits={"each_time": 0.001},
        )
        conducting = conductor(run, config)
        work = conducting.next("a")
        assert work is not None
        texts = [training.to_json() for training in work.trainings]
        group = Group(run.path, texts, work.ids, 0, "a", each_time=config.limits.each_time)
        while not group.advance(0.0):
            pass
        conducting.ended("a")
        conducting.study.flush()
        (trial,) = read_trials(run)
        assert trial.state == "FAILED"
        assert trial.details["reason"].endswith("took longer than limits.each_time (0.001 s)")
        assert not list(run.path.glob("checkpoints/*"))
