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


def usefulness(kind: str) -> str:
    """τ with the test metric at the whole budget."""
    return _by_task(_kind(kind), "tau", "low", "high", "p", "left_p_value")


def early(kind: str = "free") -> str:
    """τ with the test metric at the end, from a tenth, three tenths and all of the budget."""
    table = _read("usefulness").query(f"kind == '{kind}' and importance == 'taylor'")
    shown = ("stability.steadiness", "stability.directness", "explainability.gini", "score.0.5")
    rows = [["measure", *(f"{t.replace('_', ' ')}, {s:.0%}" for t in TASKS for s in (0.1, 0.3, 1))]]
    for name in (*shown, "trivial.early"):
        cells = [
            _cell(table, name, task, "tau", share=share)
            for task in TASKS
            for share in (0.1, 0.3, 1)
        ]
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
            cells = [_cell(part, name, t, "tau", "low", "high", "p", "left_p_value") for t in tasks]
            rows.append([f"`{importance}`", f"`{kind}`", *cells])
    return markdown(rows)


def foretelling(skill: str) -> str:
    """τ of the first half's measures with the skill of foretelling the second half."""
    table = _read("foretelling").query(f"skill == '{skill}'").assign(share=1.0)
    return _by_task(table, "tau", "low", "high", "p", "left_p")


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


PARTS: dict[str, Callable[[], str]] = {
    "pools": pools,
    "usefulness-free": lambda: usefulness("free"),
    "usefulness-held": lambda: usefulness("held"),
    "early": early,
    "added": added,
    "confounded": confounded,
    "repeatable": repeatable,
    "importances": importances,
    "path": lambda: foretelling("path_skill"),
    "loss": lambda: foretelling("loss_skill"),
    "faithfulness": faithfulness,
}


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def _kind(kind: str) -> pd.DataFrame:
    return _read("usefulness").query(f"kind == '{kind}' and importance == 'taylor' and share == 1")


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
    left_p: str = "",
    share: float = 1,
) -> str:
    """A figure with its interval, in bold where it isn't chance at 1%, with a star where it isn't
    even once the settings are accounted for.
    """
    found = table[(table["measure"] == name) & (table["task"] == task) & (table["share"] == share)]
    if not len(found) or pd.isna(found.iloc[0][value]):
        return "–"
    row = found.iloc[0]
    text = f"{row[value]:.2f}"
    sure = bool(p) and row[p] < LEVEL
    if sure:
        text = f"**{text}**"
    if sure and left_p and row[left_p] < LEVEL:
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
