"""The ways in which people train: models, optimisers and loops that a tracer is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from small_models import INPUTS, Conv, Tied, mlp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer

Take = Callable[..., None]
"""take(optimizer) steps it; take(optimizer, do) calls ``do``, which steps it."""


@dataclass
class Setup:
    """A training: ``advance(k, take)`` makes its step k."""

    model: nn.Module
    optimizers: list[Optimizer]
    advance: Callable[[int, Take], None]
    masters: Mapping[str, Tensor] = field(default_factory=dict)
    rtol: float = 1e-6

    def named(self) -> dict[str, Tensor]:
        """The tensors that are followed, by the names they have in a trace."""
        inner = getattr(self.model, "_orig_mod", self.model)
        followed = {n: p for n, p in inner.named_parameters() if p.is_floating_point()}
        return {**followed, **self.masters}


SETUPS: dict[str, Callable[[], Setup]] = {}


def setup(make: Callable[[], Setup]) -> Callable[[], Setup]:
    SETUPS[make.__name__] = make
    return make


def batch(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    return torch.randn(8, INPUTS, generator=random).to(dtype), (torch.arange(8) + step) % 3


def loss_of(model: nn.Module, step: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x, y = batch(step, dtype)
    return cross_entropy(model(x).float(), y)


def plain(model: nn.Module, *optimizers: Optimizer) -> Setup:
    """Backward, then each optimiser's step."""
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())

    def advance(k: int, take: Take) -> None:
        model.zero_grad()
        loss_of(model, k, dtype).backward()
        for optimizer in optimizers:
            take(optimizer)

    return Setup(model, list(optimizers), advance)


# ---- optimisers

BY_OPTIMIZER: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2, foreach=False),
    "sgd_foreach": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, foreach=True),
    "sgd_fused": lambda p: SGD(p, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda p: Adam(p, lr=1e-2, foreach=False),
    "adam_foreach": lambda p: Adam(p, lr=1e-2, amsgrad=True, foreach=True),
    "adam_fused": lambda p: Adam(p, lr=1e-2, fused=True),
    "adamw": lambda p: AdamW(p, lr=1e-2, foreach=False),
    "adamw_foreach": lambda p: AdamW(p, lr=1e-2, foreach=True),
    "adamw_fused": lambda p: AdamW(p, lr=1e-2, fused=True),
    "adamw_of_tensor_rates": lambda p: AdamW(p, lr=torch.tensor(1e-2)),
    "maximised": lambda p: SGD(p, lr=0.1, maximize=True),
    **{
        kind.lower(): lambda p, kind=kind: getattr(torch.optim, kind)(p, lr=1e-2)
        for kind in (
            *("Adadelta", "Adafactor", "Adagrad", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop"),
            "Rprop",
        )
    },
}
for name, make in BY_OPTIMIZER.items():

    def one_optimizer(make: Callable = make) -> Setup:
        model = mlp()
        return plain(model, make(list(model.parameters())))

    SETUPS[name] = one_optimizer


@setup
def groups() -> Setup:
    model = mlp()
    return plain(
        model,
        SGD(
            [
                {"params": model[0].parameters(), "lr": 0.2, "momentum": 0.9},
                {"params": [model[3].bias], "lr": 0.01, "weight_decay": 0.1},
                {"params": [model[3].weight]},
            ],
            lr=0.05,
        ),
    )


@setup
def lbfgs() -> Setup:
    model = mlp()
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe"
    )

    def advance(k: int, take: Take) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model.eval(), k)
            loss.backward()
            return loss

        take(optimizer, lambda: optimizer.step(closure))

    return Setup(model, [optimizer], advance)


@setup
def muon_and_adamw() -> Setup:
    model = mlp()
    matrices = [tensor for tensor in model.parameters() if tensor.ndim == 2]
    others = [tensor for tensor in model.parameters() if tensor.ndim != 2]
    return plain(model, torch.optim.Muon(matrices, lr=1e-2), AdamW(others, lr=1e-2))


class OldStyle(Optimizer):
    """Writes through ``.data``, which PyTorch doesn't count."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.add_(parameter.grad.data, alpha=-group["lr"])


@setup
def written_through_data() -> Setup:
    model = mlp()
    return plain(model, OldStyle(list(model.parameters())))


# ---- loops


@setup
def clipped() -> Setup:
    model = mlp()
    optimizer = AdamW(model.parameters(), lr=1e-2)

    def advance(k: int, take: Take) -> None:
        optimizer.zero_grad()
        loss_of(model, k).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        take(optimizer)

    return Setup(model, [optimizer], advance)


@setup
def accumulated() -> Setup:
    model = mlp()
    optimizer = AdamW(model.parameters(), lr=1e-2)

    def advance(k: int, take: Take) -> None:
        optimizer.zero_grad()
        for part in range(3):
            (loss_of(model, 3 * k + part) / 3).backward()
        take(optimizer)

    return Setup(model, [optimizer], advance)


def scaled(
    make: Callable[[list[nn.Parameter]], Optimizer], skipped: set[int], enabled: bool = True
) -> Setup:
    """Automatic mixed precision's scaler; at some of its calls the gradients are infinite."""
    model = mlp().eval()
    optimizer = make(list(model.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=2, enabled=enabled)
    calls = iter(range(1000))

    def attempt(k: int, take: Take) -> bool:
        optimizer.zero_grad()
        bad = next(calls) in skipped
        x, y = batch(k)
        loss = cross_entropy(model(x), y) * (float("inf") if bad else 1.0)
        scaler.scale(loss).backward()
        take(optimizer, lambda: scaler.step(optimizer))
        scaler.update()
        return bad

    def advance(k: int, take: Take) -> None:
        while attempt(k, take):
            pass

    return Setup(model, [optimizer], advance)


@setup
def amp() -> Setup:
    return scaled(BY_OPTIMIZER["adamw_foreach"], {0, 3, 4})


@setup
def amp_fused() -> Setup:
    return scaled(BY_OPTIMIZER["adamw_fused"], {0, 3, 4})


@setup
def amp_fused_sgd_of_autocast() -> Setup:
    made = scaled(BY_OPTIMIZER["sgd_fused"], {2})
    advance = made.advance

    def in_autocast(k: int, take: Take) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            advance(k, take)

    made.advance = in_autocast
    return made


@setup
def swapped_between_steps() -> Setup:
    """Weights are averaged, evaluated and put back, and clipped, between steps."""
    model = mlp()
    optimizer = SGD(model.parameters(), lr=0.1)
    average = torch.optim.swa_utils.AveragedModel(model)

    def advance(k: int, take: Take) -> None:
        optimizer.zero_grad()
        loss_of(model, k).backward()
        take(optimizer)
        average.update_parameters(model)
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(average.module.state_dict())
        model.load_state_dict(kept)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.clamp_(-0.3, 0.3)

    return Setup(model, [optimizer], advance)


# ---- types


@setup
def double() -> Setup:
    model = mlp().double()
    made = plain(model, AdamW(model.parameters(), lr=1e-2))
    made.rtol = 1e-12
    return made


@setup
def mixed_types() -> Setup:
    model = nn.Sequential(nn.Linear(INPUTS, 12), nn.Linear(12, 3).double())
    model[0].register_forward_hook(lambda module, inputs, output: output.double())
    return plain(model, AdamW(model.parameters(), lr=1e-2))


@setup
def bfloat16() -> Setup:
    model = mlp().bfloat16()
    return plain(model, SGD(model.parameters(), lr=0.5))


@setup
def float16() -> Setup:
    model = mlp().half()
    return plain(model, SGD(model.parameters(), lr=0.5))


@setup
def bfloat16_with_masters() -> Setup:
    model = mlp().bfloat16()
    masters = {
        name: tensor.detach().float().requires_grad_() for name, tensor in model.named_parameters()
    }
    optimizer = AdamW(masters.values(), lr=1e-3)

    def advance(k: int, take: Take) -> None:
        model.zero_grad()
        loss_of(model, k, torch.bfloat16).backward()
        for name, tensor in model.named_parameters():
            masters[name].grad = tensor.grad.float()
        take(optimizer)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                tensor.copy_(masters[name])

    return Setup(model, [optimizer], advance, masters)


# ---- models


@setup
def tied() -> Setup:
    model = Tied()
    return plain(model, AdamW(model.parameters(), lr=1e-2))


@setup
def frozen() -> Setup:
    model = mlp()
    model[0].requires_grad_(False)
    return plain(model, AdamW(model.parameters(), lr=1e-2))


@setup
def unfrozen_late() -> Setup:
    made = frozen()
    advance = made.advance

    def unfreeze(k: int, take: Take) -> None:
        made.model[0].requires_grad_(k >= 3)
        advance(k, take)

    made.advance = unfreeze
    return made


@setup
def joined_late() -> Setup:
    model = mlp()
    optimizer = AdamW(model[3].parameters(), lr=1e-2)
    made = plain(model, optimizer)
    advance = made.advance

    def join(k: int, take: Take) -> None:
        if k >= 3 and len(optimizer.param_groups) == 1:
            optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 1e-3})
        advance(k, take)

    made.advance = join
    return made


@setup
def started_from_zero() -> Setup:
    model = mlp()
    for name in ("0.bias", "3.weight", "3.bias"):
        nn.init.zeros_(model.get_parameter(name))
    return plain(model, SGD(model.parameters(), lr=0.1))


class Experts(nn.Module):
    """Of the experts one serves each batch, or all do; the others have no gradient."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.body = nn.Linear(INPUTS, 6)
        self.experts = nn.ModuleList(nn.Linear(6, 3) for _ in range(count))
        self.serving: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(x))
        return torch.stack([self.experts[i](hidden) for i in self.serving]).sum(0)


def by_experts(serving: list[list[int]], optimizer: str) -> Setup:
    model = Experts(1 + max(map(max, serving)))
    made = plain(model, BY_OPTIMIZER[optimizer](list(model.parameters())))
    advance = made.advance

    def serve(k: int, take: Take) -> None:
        model.serving = serving[k % len(serving)]
        advance(k, take)

    made.advance = serve
    return made


@setup
def heads_in_turn() -> Setup:
    return by_experts([[0], [1]], "sgd_foreach")


@setup
def heads_in_turn_fused() -> Setup:
    return by_experts([[0], [1]], "adamw_fused")


@setup
def one_head_or_all() -> Setup:
    return by_experts([[0, 1], [0], [0, 1, 2], [1]], "adamw_fused")


class Quantised(nn.Module):
    """A layer whose weight is kept in 8 bits, frozen, beside an adapter in floating point."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        levels = torch.randint(0, 256, (outputs, inputs), dtype=torch.uint8)
        self.weight = nn.Parameter(levels, requires_grad=False)
        self.shift = nn.Parameter(torch.tensor([128], dtype=torch.int32), requires_grad=False)
        self.scale = nn.Parameter(torch.full((outputs, 1), 1e-2), requires_grad=False)
        self.a = nn.Parameter(torch.randn(2, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight.float() - self.shift) * self.scale
        return x @ weight.t() + x @ self.a.t() @ self.b.t()


@setup
def quantised() -> Setup:
    model = nn.Sequential(Quantised(INPUTS, 12), nn.Tanh(), nn.Linear(12, 3))
    return plain(model, AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2))


@setup
def quantised_and_all_given() -> Setup:
    """The optimiser is given the frozen ones too."""
    model = nn.Sequential(Quantised(INPUTS, 12), nn.Tanh(), nn.Linear(12, 3))
    return plain(model, SGD(model.parameters(), lr=1e-1))


class Words(nn.Module):
    """A bag of words, most of which are in no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 6, sparse=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words((x * 10).long().abs() % 50).mean(dim=1))


@setup
def sparse_sgd() -> Setup:
    model = Words()
    return plain(model, SGD(model.parameters(), lr=0.5))


@setup
def sparse_adam() -> Setup:
    model = Words()
    return plain(
        model,
        torch.optim.SparseAdam(model.words.parameters(), lr=1e-2),
        Adam(model.head.parameters(), lr=1e-2),
    )


@setup
def batch_norm() -> Setup:
    model = Conv()
    return plain(model, SGD(model.parameters(), lr=0.1, momentum=0.9))


@setup
def channels_last() -> Setup:
    model = nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 5, 3), nn.Conv2d(5, 4, 2), nn.Flatten()
    ).to(memory_format=torch.channels_last)
    model.append(nn.Linear(4, 3))
    return plain(model, AdamW(model.parameters(), lr=1e-2))


@setup
def compiled_without_code() -> Setup:
    torch._dynamo.reset()
    model = torch.compile(mlp(), backend="aot_eager")
    return plain(model, AdamW(model.parameters(), lr=1e-2))


class Decayed(SGD):
    """Makes its step of the base class's."""

    def step(self, closure: None = None) -> None:
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.mul_(0.9)
        super().step(closure)


def with_compiled_step(kind: Callable[..., Optimizer], backend: Any = "eager") -> Setup:
    torch._dynamo.reset()
    SGD(mlp().parameters(), lr=0.1)  # from here on PyTorch hooks the base class too
    model = mlp().eval()
    optimizer = kind(model.parameters(), lr=0.1)
    step = torch.compile(optimizer.step, backend=backend)

    def advance(k: int, take: Take) -> None:
        model.zero_grad()
        loss_of(model, k).backward()
        take(optimizer, step)

    return Setup(model, [optimizer], advance)


for kind in (SGD, AdamW, Decayed):
    SETUPS[f"compiled_step_of_{kind.__name__.lower()}"] = partial(with_compiled_step, kind)


def compiled_by_inductor() -> Setup:
    torch._dynamo.reset()
    model = torch.compile(nn.Sequential(nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, 3)))
    return plain(model, AdamW(model.parameters(), lr=1e-2))


def lora() -> Setup:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        nn.Sequential(nn.Linear(INPUTS, 12), nn.Tanh(), nn.Linear(12, 3)),
        LoraConfig(r=2, lora_alpha=4, target_modules=["0"], modules_to_save=["2"]),
    )
    trainable = [tensor for tensor in model.parameters() if tensor.requires_grad]
    return plain(model, AdamW(trainable, lr=1e-2))
