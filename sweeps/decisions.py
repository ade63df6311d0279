"""Decisions: which model a reviewer chose from a ranking, and whether that ranking still stands.

A decision is tied to the ranking it was made from by a hash of what the ranking says of its models:
their order, ranks and figures, α, and who was left out and why. Decisions follow each other in
``decision.json``; none is ever changed or removed. A lock keeps two reviewers from losing one.
"""

from __future__ import annotations

import fcntl
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from sweeps.plain_text import printable
from sweeps.ranking import fingerprint
from sweeps.run_directory import DAMAGE, RunDirectory, doctor_command, resume_command
from sweeps.sealed import read_sealed, write_sealed
from trace_core.durable import owners

SCHEMA = 1
MOST_TEXT = 10_000
"""Characters of a reason, or of a reviewer's name."""


class DecisionError(ValueError):
    """A decision that can't be recorded."""


class DamagedError(DecisionError):
    """A ranking, or a record of decisions, that can't be read."""


class ChangedRankingError(DecisionError):
    """A decision from a ranking that is no longer the one reported."""


@dataclass(frozen=True)
class Decision:
    """Who chose which model, why, when (ISO 8601, UTC), and from which ranking (its hash)."""

    model_id: str
    alpha: float
    reviewer: str
    reason: str
    time: str
    ranking: str


def read_ranking(run: RunDirectory) -> dict[str, Any]:
    """The ranking that was reported.

    Raises FileNotFoundError if there is none yet, DamagedError if it is damaged.
    """
    path = run.report / "ranking.json"
    try:
        ranking = json.loads(path.read_text(encoding="utf-8"))
        fingerprint(ranking)
        _require_finite(ranking["alpha"])
        for row in (*ranking["models"], *ranking["excluded"]):
            str.strip(row["model_id"])
        for row in ranking["excluded"]:
            str.strip(row["reason"])
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: there is no ranking yet; end the sweep with: {resume_command(run.path)}"
        ) from None
    except DAMAGE as error:
        raise DamagedError(
            f"{path}: damaged ({error}); write it anew with: "
            f"tracerank report {shlex.quote(str(run.path))}"
        ) from None
    return dict(ranking)


def decisions(run: RunDirectory) -> list[Decision]:
    """All that were recorded, the first first; none if there is no file.

    Raises DamagedError if it is damaged.
    """
    try:
        stored = read_sealed(run.decisions)
        if stored["schema"] != SCHEMA:
            raise ValueError(f"schema {stored['schema']!r}; this version knows {SCHEMA}")
        every = [Decision(**each) for each in stored["decisions"]]
        for each in every:
            _require_finite(each.alpha)
            for text in (each.model_id, each.reviewer, each.reason, each.time, each.ranking):
                text.encode()
        return every
    except FileNotFoundError:
        return []
    except DAMAGE as error:
        raise DamagedError(
            f"{run.decisions}: damaged ({error}); "
            f"see what can be had with: {doctor_command(run.path)}"
        ) from None


def decide(
    run: RunDirectory, model_id: str, reviewer: str, reason: str, seen: str | None = None
) -> Decision:
    """Record that ``reviewer`` chose a model from the ranking as it was last reported.

    Raises DecisionError where the model isn't ranked, a text is empty, too long or not to be
    written as UTF-8, or a file is damaged; FileNotFoundError if nothing was ranked yet;
    ChangedRankingError if the fingerprint of the ranking that the reviewer has ``seen`` is given
    and it is another one by now.
    """
    for name, text in (("reviewer", reviewer), ("reason", reason)):
        if not text.strip():
            raise DecisionError(f"{name}: is empty; a decision names who decided, and why")
        if len(text) > MOST_TEXT:
            raise DecisionError(f"{name}: has {len(text):,} characters; the most is {MOST_TEXT:,}")
        if printable(text) != text:
            raise DecisionError(f"{name}: has half of a surrogate pair, which is no character")
    ranking = read_ranking(run)
    if seen is not None and seen != fingerprint(ranking):
        raise ChangedRankingError(
            "the ranking was reported anew since this page was opened: look at it again, and decide"
            " then"
        )
    _require_ranked(ranking, model_id)
    made = Decision(
        model_id=model_id,
        alpha=float(ranking["alpha"]),
        reviewer=reviewer.strip(),
        reason=reason.strip(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        ranking=fingerprint(ranking),
    )
    with open(run.decisions_lock, "a", opener=owners) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        every = [asdict(each) for each in (*decisions(run), made)]
        write_sealed(run.decisions, {"schema": SCHEMA, "decisions": every})
    return made


def stands(run: RunDirectory) -> tuple[Decision, bool]:
    """The last decision, and whether the ranking it was made from is still the one reported.

    Raises FileNotFoundError if nothing was decided or ranked, DamagedError for damaged files.
    """
    made = decisions(run)
    if not made:
        raise FileNotFoundError(
            f"{run.path}: nothing is decided yet; decide with: "
            f"tracerank decide {shlex.quote(str(run.path))} "
            "--model ID --reviewer NAME --reason TEXT"
        )
    return made[-1], made[-1].ranking == fingerprint(read_ranking(run))


def _require_finite(alpha: float) -> None:
    if not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}")


def _require_ranked(ranking: Mapping[str, Any], model_id: str) -> None:
    ranked = [row["model_id"] for row in ranking["models"]]
    if model_id in ranked:
        return
    for each in ranking["excluded"]:
        if each["model_id"] == model_id:
            raise DecisionError(f"model {model_id} is not ranked: {each['reason']}")
    near = get_close_matches(model_id, ranked, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    shown = ", ".join(ranked[:5]) + (f" and {len(ranked) - 5} more" if len(ranked) > 5 else "")
    raise DecisionError(
        f"model {model_id!r} is not in the ranking, which has {shown or 'no model'}.{hint}"
    )
