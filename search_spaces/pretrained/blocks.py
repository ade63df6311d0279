"""The repeated blocks of a model, by which depth is told."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Blocks:
    """Where the repeated blocks of a model are.

    ``name``: of the list that holds them, as in ``named_modules``; None if there are none.
    ``children``: the names of the blocks in it, from the input on.
    """

    name: str | None
    children: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.children)

    def levels(self, model: nn.Module) -> dict[str, int]:
        """The level of every parameter of a model with these blocks: 0 for those listed before the
        blocks (embeddings, stem) and for all where there are no blocks, then 1 for the first block,
        and so on; one more than the last block's for those listed after.
        """
        prefixes = [
            f"{self.name}.{child}." if self.name else f"{child}." for child in self.children
        ]
        levels: dict[str, int] = {}
        after = False
        for name, _ in model.named_parameters():
            block = next((b for b, p in enumerate(prefixes, 1) if name.startswith(p)), None)
            after = after or block is not None
            levels[name] = block if block is not None else (len(self) + 1 if after else 0)
        return levels


def find_blocks(model: nn.Module) -> Blocks:
    """The list of modules of one class that has the most parameters; the longer of equals."""
    best, score = Blocks(None, ()), (0, 0)
    for name, module in model.named_modules():
        children = dict(module.named_children())
        if not isinstance(module, nn.ModuleList | nn.Sequential) or not children:
            continue
        if len({type(child) for child in children.values()}) > 1:
            continue
        # One module in a Sequential is no repetition.
        if isinstance(module, nn.Sequential) and len(children) < 2:
            continue
        found = (sum(parameter.numel() for parameter in module.parameters()), len(children))
        if found > score:
            best, score = Blocks(name, tuple(children)), found
    return best
