"""How the parameters of a model start.

Each named scheme draws the weights of the layers it knows, and sets their biases to zero:

- Linear and Conv1d/2d/3d: the weight.
- GRU, LSTM and RNN: each gate's block of every weight (rows r·hidden to (r+1)·hidden), so that an
  orthogonal recurrent weight is orthogonal per gate and a fan is a gate's own.
- MultiheadAttention: query, key and value apart, also where they are packed into one ``in_proj``;
  its extra bias_k and bias_v are left as built.
- Embedding: the table as a matrix; the row of ``padding_idx`` is zero.
- Norm layers: weight 1, bias 0.

Parameters of any other module, and bare ones (positions, class tokens, the vectors of a feature
tokeniser), are left as the architecture built them. A tensor that several layers share is drawn
once. ``default`` touches nothing: PyTorch's own choice per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from search_spaces.errors import SpaceError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

INITIALISATIONS: dict[str, str] = {
    "default": "PyTorch's own for each layer",
    "xavier_uniform": "uniform in ±√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)",
    "xavier_normal": "normal, std √(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)",
    "kaiming_uniform": "uniform in ±√(6 / fan_in) (He et al. 2015, for ReLU)",
    "kaiming_normal": "normal, std √(2 / fan_in) (He et al. 2015, for ReLU)",
    "orthogonal": "orthonormal rows or columns (Saxe et al. 2013)",
    "normal_002": "normal, std 0.02 (as GPT-2 and BERT)",
    "small": "normal, std 0.1 / √fan_in: a tenth of what keeps the variance of the signal",
}


def initialise(model: nn.Module, name: str) -> None:
    """Draw the model's parameters anew by the named scheme, in place.

    Draws from PyTorch's global generator, module by module in the order of ``model.modules()``.
    Raises SpaceError for an unknown name.
    """
    if name not in INITIALISATIONS:
        raise SpaceError(unknown("init", "initialisation", name, INITIALISATIONS))
    if name == "default":
        return
    import torch

    fill = _scheme(name)
    seen: set[int] = set()
    with torch.no_grad():
        for module in model.modules():
            for parameter, blocks, constant in _plan(module):
                if id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                if constant is not None:
                    parameter.fill_(constant)
                for block in parameter.chunk(blocks) if constant is None else ():
                    fill(block)
            _clear_padding(module)


def _scheme(name: str) -> Callable[[Tensor], object]:
    from torch.nn import init

    def small(weight: Tensor) -> object:
        fan_in = weight[0].numel()
        return init.normal_(weight, std=0.1 / fan_in**0.5)

    schemes: dict[str, Callable[[Tensor], object]] = {
        "xavier_uniform": init.xavier_uniform_,
        "xavier_normal": init.xavier_normal_,
        "kaiming_uniform": lambda weight: init.kaiming_uniform_(weight, nonlinearity="relu"),
        "kaiming_normal": lambda weight: init.kaiming_normal_(weight, nonlinearity="relu"),
        "orthogonal": init.orthogonal_,
        "normal_002": lambda weight: init.normal_(weight, std=0.02),
        "small": small,
    }
    return schemes[name]


def _plan(module: nn.Module) -> Iterator[tuple[Tensor, int, float | None]]:
    """Parameters of this module itself: (parameter, blocks drawn apart, or the constant to set)."""
    from torch import nn

    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        yield module.weight, 1, None
        if module.bias is not None:
            yield module.bias, 1, 0.0
    elif isinstance(module, nn.RNNBase):
        gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("bias"):
                yield parameter, 1, 0.0
            else:
                yield parameter, 1 if name.startswith("weight_hr") else gates, None
    elif isinstance(module, nn.MultiheadAttention):
        if module._qkv_same_embed_dim:
            yield module.in_proj_weight, 3, None
        else:
            for parameter in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight):
                yield parameter, 1, None
        if module.in_proj_bias is not None:
            yield module.in_proj_bias, 1, 0.0
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        yield module.weight, 1, None
    elif _is_norm(module):
        if isinstance(module.weight, nn.Parameter):
            yield module.weight, 1, 1.0
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            yield module.bias, 1, 0.0  # type: ignore[misc]


def _is_norm(module: nn.Module) -> bool:
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    return isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)


def _clear_padding(module: nn.Module) -> None:
    from torch import nn

    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
        module.weight[module.padding_idx].fill_(0.0)
