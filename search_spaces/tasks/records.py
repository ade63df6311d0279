"""Rows of a file that texts come in: CSV, TSV, JSONL or Parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from search_spaces.errors import SpaceError, did_you_mean, first_few, listing, shown
from search_spaces.setting import Setting
from search_spaces.tasks.splits import PARTS
from search_spaces.tasks.task import Array

SPLIT = Setting(
    "str", "", f"a column that says {', '.join(PARTS)}; without one the parts are drawn"
)
"""The setting that names the column by which `Records.parts` goes."""

Read: TypeAlias = tuple[list[str], dict[str, list[Any]], Sequence[int]]
"""The names of all columns, the values of those wanted that are there, the place of each row."""


@dataclass(frozen=True)
class Records:
    """Columns of a file, by the settings that name them.

    ``values``: for each setting the values of its column, one a row. ``places``: the line of the
    file at which each row begins, or its number in a Parquet file; from 1.
    """

    file: str
    columns: dict[str, str]
    values: dict[str, list[Any]]
    places: Sequence[int]
    unit: str = "line"

    def at(self, rows: Sequence[int]) -> str:
        """Where rows are, for a message: the first few."""
        return (
            f"{self.unit}{'s' if len(rows) > 1 else ''} {first_few([self.places[r] for r in rows])}"
        )

    def texts(self, where: str) -> list[str]:
        """Column ``text``, in which every row has a text that isn't blank. Raises SpaceError."""
        return self._all_of("text", "text", _text, where)

    def labels(self, where: str) -> list[str]:
        """Column ``label``, every row's as text: without blanks around it, true and false as in
        JSON. Raises SpaceError.
        """
        return self._all_of("label", "label", _label, where)

    def _all_of(
        self, setting: str, what: str, read: Callable[[object], str | None], where: str
    ) -> list[str]:
        """Every row's value as ``read`` gives it, which is None for what isn't one."""
        found = self.values[setting]
        values = [read(value) for value in found]
        wrong = [row for row, value in enumerate(values) if value is None]
        missing = [row for row in wrong if _is_missing(found[row])]
        odd = [row for row in wrong if not _is_missing(found[row])]
        place = f"{where}.{setting}: column {shown(self.columns[setting])} of {self.file}"
        problems = []
        if missing:
            problems.append(f"{place} has no {what} in {self.at(missing)}; must have one in each")
        if odd:
            got = shown(found[odd[0]])
            problems.append(f"{place} has what is no {what} in {self.at(odd)}: got {got}")
        if problems:
            raise SpaceError(*problems)
        return [value for value in values if value is not None]

    def parts(self, where: str) -> tuple[Array, Array, Array]:
        """The rows of the training, validation and test part, as the column ``split`` says.

        Raises SpaceError for other words, and for a part without a row.
        """
        place = f"{where}.split: column {shown(self.columns['split'])} of {self.file}"
        words = [str(value).strip() for value in self.values["split"]]
        other = [row for row, word in enumerate(words) if word not in PARTS]
        if other:
            got = shown(self.values["split"][other[0]])
            raise SpaceError(
                f"{place} has {got} in {self.at(other)}; must be one of {listing(PARTS)}"
                f"{did_you_mean(words[other[0]], PARTS)}"
            )
        numbers = np.array([PARTS.index(word) for word in words])
        train, validation, test = (np.flatnonzero(numbers == part) for part in range(len(PARTS)))
        empty = [part for part in PARTS if part not in words]
        if empty:
            raise SpaceError(
                f"{place} has no row of {listing(empty)}; must have all of {listing(PARTS)}"
            )
        return train, validation, test


def _is_missing(value: object) -> bool:
    """Whether nothing stands in a cell: null, not-a-number, or blanks."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: object) -> str | None:
    if not isinstance(value, str) or "\0" in value or not value or value.isspace():
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which JSON can write and UTF-8 can't.
        return None
    return value


def _label(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        # The same number, however it is written.
        value = int(value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    text = _text(value)
    return None if text is None else text.strip()


def read_records(
    path: Path, columns: Mapping[str, str], where: str, also: Sequence[str] = ()
) -> Records:
    """Columns of the file at ``path``: ``columns`` says for each setting how its column is called.

    ``also``: other endings that the caller reads, for the message. ``where`` is the key path above
    the settings. Raises SpaceError for a file that can't be read, with the line; for columns that
    aren't there, each by its setting, or are the same; and where there is no row.
    """
    if len(set(columns.values())) < len(columns):
        raise SpaceError(
            f"{where}: got {listing(columns.values())} as {listing(columns)}; "
            "must be different columns"
        )
    place = f"{where}.file"
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SpaceError(
            f"{place}: got {shown(path.name)}; must end in {listing((*also, *RECORDS))}"
        )
    with readable(path, place):
        names, found, places = reader(path, list(columns.values()), place)
    problems = [
        f"{where}.{setting}: {path.name} has no column {shown(column)}; "
        f"it has {_named(names)}{_divided(path, names) or did_you_mean(column, names)}"
        for setting, column in columns.items()
        if column not in found
    ]
    if not places:
        problems = [f"{place}: {path.name} has no rows"]
    if problems:
        raise SpaceError(*problems)
    values = {setting: found[column] for setting, column in columns.items()}
    unit = "row" if reader is _read_parquet else "line"
    return Records(path.name, dict(columns), values, places, unit)


def _named(columns: Sequence[str]) -> str:
    """The columns for a message, in quotes where that is all that shows what they are called."""
    return first_few([one if one == one.strip() and one else shown(one) for one in columns], 20)


def _divided(path: Path, columns: Sequence[str]) -> str:
    """What to do where a table seems to be divided by something else."""
    ours = {".csv": "a comma", ".tsv": "a tab"}.get(path.suffix.lower())
    other = next((each for each in (";", "\t", "|", ",") if each in "".join(columns)), None)
    if len(columns) != 1 or ours is None or other is None:
        return ""
    what = "a tab" if other == "\t" else repr(other)
    return f". Its columns seem to be divided by {what}; must be {ours}"


@contextmanager
def readable(path: Path, place: str) -> Iterator[None]:
    """Reading the file at ``path``: what goes wrong becomes a SpaceError at ``place``."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise SpaceError(f"{place}: {path} is {what}; must be a file")
    try:
        yield
    except UnicodeDecodeError:
        raise SpaceError(f"{place}: {_not_utf8(path)}") from None
    except OSError as error:
        raise SpaceError(f"{place}: {path} can't be read: {error}") from error


def _not_utf8(path: Path) -> str:
    with open(path, "rb") as file:
        for signature, what in _SIGNATURES.items():
            if file.read(len(signature)) == signature:
                return f"{path.name} is {what}; must be text in UTF-8"
            file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = f"byte 0x{line[error.start]:02x}"
                return f"line {number} of {path.name} is not text in UTF-8: {byte}"
    return f"{path.name} is not text in UTF-8"


_SIGNATURES = {
    b"\x89PNG": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"GIF8": "an image (GIF)",
    b"PK\x03\x04": "an archive (ZIP, or a spreadsheet)",
    b"\x1f\x8b": "compressed (gzip)",
    b"%PDF": "a PDF",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


def _read_csv(path: Path, wanted: list[str], place: str) -> Read:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                return _table(rows, wanted, path.name, place)
            except csv.Error as error:
                raise SpaceError(
                    f"{place}: line {rows.line_num} of {path.name} can't be read: {error}"
                ) from None
    finally:
        csv.field_size_limit(limit)


def _table(rows: Any, wanted: list[str], name: str, place: str) -> Read:
    header: list[str] = next((row for row in rows if row), [])
    for column in wanted:
        if header.count(column) > 1:
            raise SpaceError(f"{place}: {name} has two columns called {shown(column)}")
    at = {column: header.index(column) for column in wanted if column in header}
    values: dict[str, list[Any]] = {column: [] for column in at}
    places, before = [], rows.line_num
    for row in rows:
        begins, before = before + 1, rows.line_num
        if not row:
            continue
        if len(row) != len(header):
            raise SpaceError(
                f"{place}: line {begins} of {name} has {len(row)} values; "
                f"must have {len(header)}, as the header"
            )
        places.append(begins)
        for column, index in at.items():
            values[column].append(row[index])
    return header, values, places


def _read_jsonl(path: Path, wanted: list[str], place: str) -> Read:
    values: dict[str, list[Any]] = {column: [] for column in wanted}
    names: dict[str, None] = {}
    places = []
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SpaceError(
                    f"{place}: line {number} of {path.name} is no JSON: {error}"
                ) from None
            if not isinstance(row, dict):
                raise SpaceError(
                    f"{place}: line {number} of {path.name} is {shown(row)}; "
                    "must be an object, as in {...}"
                )
            names.update(dict.fromkeys(row))
            places.append(number)
            for column in wanted:
                values[column].append(row.get(column))
    return list(names), {column: values[column] for column in wanted if column in names}, places


def _read_parquet(path: Path, wanted: list[str], place: str) -> Read:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            table = file.read(columns=[column for column in wanted if column in names])
            values = {name: _column(table[name], path.name, place) for name in table.column_names}
            return names, values, range(1, table.num_rows + 1)
    except ArrowException as error:
        raise SpaceError(f"{place}: {path.name} is no Parquet file: {error}") from None


def _column(column: Any, name: str, place: str) -> list[Any]:
    values = []
    for row, value in enumerate(column, 1):
        try:
            values.append(value.as_py())
        except UnicodeDecodeError:
            raise SpaceError(f"{place}: row {row} of {name} is not text in UTF-8") from None
    return values


_READERS: dict[str, Callable[[Path, list[str], str], Read]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}

RECORDS = tuple(_READERS)
"""The endings of files that `read_records` reads."""
