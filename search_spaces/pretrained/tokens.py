"""Texts as a checkpoint's tokenizer has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces.errors import SpaceError, first_line
from search_spaces.pretrained.checkpoint import Checkpoint
from search_spaces.pretrained.packages import needed, quiet
from search_spaces.tasks.task import Array, Part, Splits

if TYPE_CHECKING:
    from search_spaces.tasks.task import Task

_AT_ONCE = 1000


def read_tokenizer(checkpoint: Checkpoint, where: str) -> Any:
    """The folder's fast tokenizer. Raises SpaceError."""
    folder = checkpoint.folder
    if not any(
        path.suffix != ".json" or path.stem in ("tokenizer", "vocab")
        for path in checkpoint.tokenizer_files()
    ):
        raise SpaceError(f"{where}: {folder} has no tokenizer: tokenizer.json, or a vocabulary")
    with quiet(), needed("transformers"):
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, use_fast=True, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:
            # Classes of all kinds: the files are handed to the tokenizer's own code.
            raise SpaceError(
                f"{where}: {folder}: its tokenizer isn't read: {first_line(error)}"
            ) from None
    if not tokenizer.is_fast:
        raise SpaceError(
            f"{where}: {folder}: its tokenizer, {type(tokenizer).__name__}, has no fast form; save "
            "one as tokenizer.json"
        )
    # A text is read from its beginning, whatever the tokenizer was last used for.
    tokenizer.truncation_side = "right"
    return tokenizer


def prepare(task: Task, checkpoint: Checkpoint, max_length: int, where: str) -> Splits:
    """The task's texts as token ids.

    For language each text is cut into blocks of ``max_length`` tokens; otherwise it is read up to
    there. Rows are as long as the longest, -1 where there is no token.
    """
    tokenizer = read_tokenizer(checkpoint, where)
    splits = task.data()
    parts = []
    for part in (splits.train, splits.validation, splits.test):
        if task.kind == "language":
            rows, read = _blocks(tokenizer, part.inputs, max_length)
            if not rows:
                raise SpaceError(f"task {task.name}: no text has two tokens to learn from")
            parts.append((rows, np.array(read, dtype=np.int64)))
        else:
            parts.append((_rows(tokenizer, part.inputs, max_length), part.targets))
    longest = max(len(row) for rows, _ in parts for row in rows)
    largest, known = max(max(row) for rows, _ in parts for row in rows), checkpoint.vocabulary
    if largest >= known:
        raise SpaceError(
            f"{where}: {checkpoint.folder}: its tokenizer gives token {largest}, and its model has "
            f"embeddings for {known}"
        )
    made = []
    for rows, targets in parts:
        tokens = _padded(rows, longest)
        if task.kind == "language":
            targets = np.concatenate([targets[:, None], tokens], axis=1).astype(np.int64)
        made.append(Part(tokens, targets))
    train, validation, test = made
    return Splits(train, validation, test, target_scale=splits.target_scale)


def _padded(rows: Sequence[Sequence[int]], longest: int) -> Array:
    tokens = np.full((len(rows), longest), -1, dtype=np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens


def _rows(tokenizer: Any, texts: Array, max_length: int) -> list[list[int]]:
    found: list[list[int]] = []
    spare = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    for start in range(0, len(texts), _AT_ONCE):
        with quiet():
            told = tokenizer(
                list(texts[start : start + _AT_ONCE]),
                padding=False,
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
        # A model must have a token to read, and an empty text may have none.
        found += [ids or [spare] for ids in told["input_ids"]]
    return found


def _blocks(tokenizer: Any, texts: Array, max_length: int) -> tuple[list[list[int]], list[int]]:
    """Blocks of tokens, and how many bytes of text those after the first of each stand for.

    The token for what the tokenizer doesn't know stands for no byte: which ones, it doesn't tell.
    """
    blocks: list[list[int]] = []
    read: list[int] = []
    ends_too = tokenizer.unk_token_id in (tokenizer.eos_token_id, tokenizer.bos_token_id)
    unknown = None if ends_too else tokenizer.unk_token_id
    for start in range(0, len(texts), _AT_ONCE):
        some = list(texts[start : start + _AT_ONCE])
        with quiet():
            told = tokenizer(
                some,
                padding=False,
                truncation=False,
                return_offsets_mapping=True,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
        for text, ids, spans in zip(some, told["input_ids"], told["offset_mapping"], strict=True):
            size = np.diff(_byte_ends(text, spans), prepend=0)
            if unknown is not None:
                size[np.array(ids, dtype=np.int64) == unknown] = 0
            for at in range(0, len(ids), max_length):
                block = ids[at : at + max_length]
                if len(block) >= 2:
                    blocks.append(block)
                    read.append(int(size[at + 1 : at + len(block)].sum()))
    return blocks, read


def _byte_ends(text: str, spans: Sequence[tuple[int, int]]) -> Array:
    """Up to which byte of a text each token has come, by the characters (from, to) that each has a
    part of. A character's bytes are spread over its tokens.
    """
    # Special tokens have no character, and end at 0 wherever they stand.
    ends = np.array([end for _, end in spans], dtype=np.int64)
    if text.isascii():
        return np.maximum.accumulate(ends)
    widths = [len(character.encode("utf-8", "surrogatepass")) for character in text]
    before = np.concatenate([[0], np.cumsum(widths)])
    found: Array = before[ends]
    tokens = np.zeros(len(text) + 1, dtype=np.int64)
    for start, end in spans:
        if start < end:
            tokens[start] += 1
            tokens[end] -= 1
    tokens = tokens.cumsum()
    if tokens.max() > 1:
        seen: dict[int, int] = {}
        for number, (start, end) in enumerate(spans):
            for place in {start, end - 1} if start < end else ():
                seen[place] = seen.get(place, 0) + 1
            last = end - 1
            if start < end and tokens[last] > 1:
                found[number] = before[last] + widths[last] * seen[last] // tokens[last]
    return np.maximum.accumulate(found)


def vocabulary_problem(tokenizer: Any, checkpoint: Checkpoint) -> str | None:
    """Why the model can't read all that its tokenizer gives, added tokens left out: models aren't
    always given embeddings for those that no text has.
    """
    if tokenizer.vocab_size <= checkpoint.vocabulary:
        return None
    return (
        f"{checkpoint.folder}: its tokenizer has {tokenizer.vocab_size} tokens, and its model "
        f"embeddings for {checkpoint.vocabulary}"
    )
