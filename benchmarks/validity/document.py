"""The tables and plots of docs/validity.md, from the results that are kept.

``python -m benchmarks.validity.document`` writes them anew between the marks in the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.timing import markdown
from benchmarks.validity import plot
from benchmarks.validity.pools import IMPORTANCES, TASKS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "validity.md"
PICTURE = ROOT / "docs" / "validity.svg"
RESULTS = ROOT / "benchmarks" / "results" / "validity"
LEVEL = 0.01
TRIVIAL = ("early", "loss", "loss_sum", "learning_rate", "parameters")
MEASURES = (
    *(f"stability.{kind}" for kind in ("steadiness", "steadiness_raw", "magnitude", "directness")),
    *(f"change_rate.{k}" for k in ("rms", "global_l1", "tensor_l1", "symmetric", "elementwise")),
    *(
        f"explainability.{k}"
        for k in ("gini", "hoyer", "effective_sparsity", "top_mass", "entropy")
    ),
    *("score.0.5", "score.0.5.steadiness_raw", "score.0.5.magnitude", "score.0.5.directness"),
    *("score.std", "score.entropy", "score.cross_validated", "article"),
    *(f"trivial.{name}" for name in TRIVIAL),
)
_MARK = "<!-- {}: written by make validity -->"


def write(page: str) -> str:
    """The page with every table and plot written anew."""
    for name, table in PARTS.items():
        start, end = _MARK.format(name), f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"{PAGE}: has no place for {name}")
        text = f"{start}\n\n{table()}\n\n{end}"
        page = pattern.sub(lambda _, text=text: text, page)
    return page


def pools() -> str:
    """How many models and seeds stand behind the tables."""
    table = _read("usefulness").query("share == 1 and measure == 'explainability.gini'")
    rows = [["task", "pool", "importance", "models above the floor", "seeds"]]
    for row in table.to_dict("records"):
        names = [row["task"].replace("_", " "), row["kind"], row["importance"]]
        rows.append([*names, f"{row['models']}", f"{row['seeds']}"])
    return markdown(rows)


def usefulness(kind: str, share: float = 1) -> str:
    """τ with the test metric at the end, read from a share of the budget."""
    return _by_task(_kind(kind, share), "tau", "low", "high", "p", "left_value", "left_p_value")


def other(statistic: str) -> str:
    """Spearman's ρ or the weighted τ, in place of τ-b."""
    return _by_task(_kind("free"), statistic, f"{statistic}_low", f"{statistic}_high")


def early() -> str:
    """τ with the test metric at the end, from a tenth, three tenths and all of the budget."""
    tables = {share: _kind("free", share) for share in (0.1, 0.3, 1)}
    heads = [f"{task.replace('_', ' ')}, {share:.0%}" for task in TASKS for share in tables]
    rows = [["measure", *heads]]
    for name in MEASURES:
        cells = [_cell(table, name, task, "tau") for task in TASKS for table in tables.values()]
        rows.append([f"`{name}`", *cells])
    return markdown(rows)


def added() -> str:
    """What is left of each measure's association given the early metric, and given the settings."""
    table = _kind("free")
    heads = [
        f"{task.replace('_', ' ')}, {what}" for task in TASKS for what in ("early", "settings")
    ]
    rows = [["measure", *heads]]
    for name in MEASURES:
        if not name.startswith("trivial."):
            cells = [
                _cell(table, name, task, value, p=p)
                for task in TASKS
                for value, p in (("added", "added_p"), ("left_value", "left_p_value"))
            ]
            rows.append([f"`{name}`", *cells])
    return markdown(rows)


def confounded() -> str:
    """The share of each measure's ranks that learning rate, weight decay and size explain."""
    return _by_task(_kind("free"), "left_explained")


def repeatable() -> str:
    """τ between single seeds, and between single orders of the batches."""
    free, orders = _kind("free"), _kind("orders")
    heads = [f"{task.replace('_', ' ')}, {what}" for task in TASKS for what in ("seeds", "orders")]
    rows = [["measure", *heads]]
    for name in MEASURES:
        cells = [
            _cell(table, name, task, "repeatability") for task in TASKS for table in (free, orders)
        ]
        rows.append([f"`{name}`", *cells])
    return markdown(rows)


def importances() -> str:
    """τ of the concentration with the test metric, by the importance it is of."""
    table = _read("usefulness").query("kind == 'free' and share == 1")
    tasks = sorted(set(table.loc[table["importance"] != "taylor", "task"]))
    rows = [["importance", "concentration", *(task.replace("_", " ") for task in tasks)]]
    for importance in IMPORTANCES:
        part = table[table["importance"] == importance]
        for kind in ("gini", "hoyer", "effective_sparsity", "top_mass", "entropy"):
            name = f"explainability.{kind}"
            cells = [
                _cell(part, name, t, "tau", "low", "high", "p", "left_value", "left_p_value")
                for t in tasks
            ]
            rows.append([f"`{importance}`", f"`{kind}`", *cells])
    return markdown(rows)


def foretelling(skill: str, kind: str) -> str:
    """τ of the first half's measures with the skill of foretelling the second half."""
    table = _read("foretelling").query(f"skill == '{skill}' and kind == '{kind}'")
    return _by_task(table, "tau", "low", "high", "p", "left", "left_p")


def choices(of: str) -> str:
    """What a choice of the floor or of the number of replicates decides."""
    table = _read("choices").query(f"of == '{of}'")
    rows = [[of, *(task.replace("_", " ") for task in TASKS)]]
    for choice in sorted(set(table["choice"])):
        part = table[table["choice"] == choice].set_index("task")
        cells = []
        for task in TASKS:
            row = part.loc[task]
            if of == "floor":
                interval = f"({row['low']:.2f} to {row['high']:.2f}, {row['models']:.0f} models)"
                cells.append(f"{row['tau']:.2f} {interval}".replace("-", "−"))
            else:
                cells.append(f"{row['tau']:.2f}")
        rows.append([f"{choice:g}", *cells])
    return markdown(rows)


def faithfulness() -> str:
    """Median rise of the loss when parameters are zeroed."""
    table = _read("faithfulness")
    rows = [
        ["estimator", "zeroed", "task", "first", "as many of each tensor", "any", "last", "wins"]
    ]
    for row in table.sort_values(["estimator", "fraction", "task"]).to_dict("records"):
        rises = [f"{row[way]:.3f}" for way in ("top", "shuffled", "random", "bottom")]
        wins = f"{row['wins']} of {row['models']}"
        names = [f"`{row['estimator']}`", f"{row['fraction']:.0%}", row["task"].replace("_", " ")]
        rows.append([*names, *rises, wins])
    return markdown(rows)


def schedules() -> str:
    """What the schedule explains beside the other settings, and which way it goes."""
    table = _read("schedules")
    tasks = sorted(set(table["task"]))
    heads = [
        f"{task.replace('_', ' ')}, {what}"
        for task in tasks
        for what in ("settings", "and schedule", "τ with cosine")
    ]
    rows = [["measure", *heads]]
    for name in MEASURES:
        if (table["measure"] == name).any():
            cells = []
            for task in tasks:
                cells += [_cell(table, name, task, each) for each in ("explained", "scheduled")]
                cells.append(_cell(table, name, task, "tau", "low", "high", "p"))
            rows.append([f"`{name}`", *cells])
    return markdown(rows)


PARTS: dict[str, Callable[[], str]] = {
    "pools": pools,
    "usefulness-free": lambda: usefulness("free"),
    "usefulness-held": lambda: usefulness("held"),
    "spearman": lambda: other("rho"),
    "weighted": lambda: other("weighted"),
    "early": early,
    "early-10": lambda: usefulness("free", 0.1),
    "early-30": lambda: usefulness("free", 0.3),
    "early-held-10": lambda: usefulness("held", 0.1),
    "early-held-30": lambda: usefulness("held", 0.3),
    "added": added,
    "confounded": confounded,
    "schedules": schedules,
    "repeatable": repeatable,
    "importances": importances,
    "path-free": lambda: foretelling("path_skill", "free"),
    "path-held": lambda: foretelling("path_skill", "held"),
    "loss-free": lambda: foretelling("loss_skill", "free"),
    "loss-held": lambda: foretelling("loss_skill", "held"),
    "faithfulness": faithfulness,
    "floor": lambda: choices("floor"),
    "replicates": lambda: choices("replicates"),
}


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def _kind(kind: str, share: float = 1) -> pd.DataFrame:
    table = _read("usefulness")
    return table.query(f"kind == '{kind}' and importance == 'taylor' and share == {share}")


def _by_task(table: pd.DataFrame, *columns: str) -> str:
    rows = [["measure", *(task.replace("_", " ") for task in TASKS)]]
    for name in MEASURES:
        if (table["measure"] == name).any():
            rows.append([f"`{name}`", *(_cell(table, name, task, *columns) for task in TASKS)])
    return markdown(rows)


def _cell(
    table: pd.DataFrame,
    name: str,
    task: str,
    value: str,
    low: str = "",
    high: str = "",
    p: str = "",
    left: str = "",
    left_p: str = "",
) -> str:
    """A figure with its interval, in bold where it isn't chance at 1%, with a star where it isn't
    even once the settings are accounted for, in the same direction.
    """
    found = table[(table["measure"] == name) & (table["task"] == task)]
    if not len(found) or pd.isna(found.iloc[0][value]):
        return "–"
    row = found.iloc[0]
    text = f"{row[value]:.2f}"
    sure = bool(p) and row[p] < LEVEL
    if sure:
        text = f"**{text}**"
    if sure and left_p and row[left_p] < LEVEL and row[left] * row[value] > 0:
        text += "★"
    if low:
        text += f" ({row[low]:.2f} to {row[high]:.2f})"
    return text.replace("-", "−")


def picture() -> str:
    """The plot of the page."""
    return plot.usefulness(_kind("free"), MEASURES)


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text()))
    PICTURE.write_text(picture())
