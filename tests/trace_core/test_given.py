"""What is given by mistake gets one clear message, in the package's own error, and nothing is made
of it.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_models import INPUTS, mlp, train

from trace_core import Trace, TraceError, Tracer, alpha
from trace_core.alpha_adaptive import adaptive_alphas
from trace_core.importance import (
    PROBED,
    Probe,
    SynapticIntelligence,
    ablation_rises,
    importance_estimator,
    permutation_rises,
)
from trace_core.phases import phases

WHOLE = r"{} is {}; it must be a whole number"


def made():
    model = mlp()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def trace() -> Trace:
    model, optimizer = made()
    with Tracer(model, optimizer) as tracer:
        train(model, optimizer, 12)
    return tracer.trace()


SETTINGS = [
    ({"every": True}, "every is True; .* whole number from 1"),
    ({"every": 1.0}, "every is 1.0; .* whole number from 1"),
    ({"every": "2"}, "every is '2'"),
    ({"histogram_every": True}, "histogram_every is True; .* whole number from 1"),
    ({"histogram_every": 0}, "histogram_every is 0"),
    ({"anchors": 5}, r"anchors is 5; give a sequence of steps, such as \(0, 1\)"),
    ({"anchors": "05"}, "anchors is '05'; give a sequence"),
    ({"anchors": (0, True)}, "anchors has True; an anchor is an observed step"),
    ({"anchors": (0, 2.0)}, "anchors has 2.0"),
    ({"anchors": None}, "anchors is None; give a sequence"),
    ({"exact_directness": "yes"}, "exact_directness is a str; give True, False or None"),
    ({"importance": 3}, "unknown importance 3; there are: .*'taylor'"),
    ({"importance": ["taylor"]}, "unknown importance .* there are: .*'taylor'"),
    ({"masters": [torch.ones(3)]}, "masters is a list; give {name of the parameter: tensor}"),
    ({"masters": {"3.bias": [1.0] * 3}}, "master copy of parameter '3.bias' is a list; .* tensor"),
    ({"on_observation": "print"}, "on_observation is 'print'; give a function, or None"),
    ({"importance": "fisher", "probe": torch.ones(2)}, r"probe is a Tensor; .*Probe\(batch, loss"),
]


@pytest.mark.parametrize(("settings", "words"), SETTINGS)
def test_a_setting_of_a_tracer(settings, words):
    model, optimizer = made()
    with pytest.raises(TraceError, match=words):
        Tracer(model, optimizer, **settings)
    assert not optimizer._optimizer_step_pre_hooks


def test_a_tracer_of_no_model():
    model, optimizer = made()
    with pytest.raises(TraceError, match=r"model is a SGD; give the torch\.nn\.Module"):
        Tracer(optimizer, model)


def test_numbers_of_numpy_are_numbers(trace):
    model, optimizer = made()
    settings = {"every": np.int64(2), "histogram_every": np.int32(2), "anchors": np.array([0, 4])}
    tracer = Tracer(model, optimizer, **settings)
    train(model, optimizer, 8)
    seen = tracer.trace()
    assert (seen.every, seen.anchors) == (2, (0, 4))
    assert type(seen.every) is type(seen.anchors[1]) is int
    assert seen.steps[seen.histogram.observations].tolist() == [0, 4]
    assert len(trace.window(np.int64(3), np.uint8(9))) == 6
    assert trace.most_important(np.int64(2)) == trace.most_important(2)
    for weight in (np.float32(0.25), np.array(0.25), torch.tensor(0.25)):
        assert trace.score(weight) == trace.score(0.25)
        assert type(trace.score(weight)) is float


def bad_model(call: Callable) -> Callable:
    return lambda trace: call([torch.ones(2)], probe())


def probe() -> Probe:
    return Probe(torch.ones(2, INPUTS), lambda outputs, batch: outputs.square().mean())


POOL = [0.1, 0.2, 0.4], [0.5, 0.3, 0.1]
CALLS = {
    "window of text": (lambda trace: trace.window("0", 3), WHOLE.format("start", "'0'")),
    "window to a float": (lambda trace: trace.window(0, 3.5), WHOLE.format("stop", "3.5")),
    "window to a bool": (lambda trace: trace.window(0, True), WHOLE.format("stop", "True")),
    "window to None": (lambda trace: trace.window(0, None), WHOLE.format("stop", "None")),
    "rows from the end": (lambda trace: trace.rows(-3, 5), WHOLE.format("start", "-3")),
    "top of text": (lambda trace: trace.top_movers("3"), WHOLE.format("count", "'3'")),
    "top of a negative": (lambda trace: trace.most_important(-1), "count is -1; .* from 0"),
    "tensor by number": (lambda trace: trace.tensor(0), "unknown tensor 0; there are: '0.weight'"),
    "layer of a list": (lambda trace: trace.layer(["0"]), "unknown layer .* there are: '0', '3'"),
    "kind of a list": (lambda trace: trace.change_rate(["rms"]), "unknown change rate .*'rms'"),
    "alpha of text": (lambda trace: trace.score("half"), r"alpha is 'half'; .* lie in \[0, 1\]"),
    "alpha of None": (lambda trace: trace.score(None), r"alpha is None; .* lie in \[0, 1\]"),
    "alphas too few": (lambda trace: trace.scores([0.1, 0.2]), r"alpha has shape \(2,\); .*\(12,"),
    "scheme misspelt": (lambda trace: trace.scores("stdd"), "unknown adaptive scheme 'stdd'"),
    "phases of a file": (lambda trace: phases("trace.npz"), "trace is a str; give a Trace"),
    "parsing nothing": (
        lambda trace: alpha.parse_alpha(None),
        "alpha is None: it must be",
    ),
    "pool of text": (lambda trace: alpha.std_alpha(["a"], [0.1]), "stability must hold numbers"),
    "pools unlike": (lambda trace: alpha.std_alpha([0.1, 0.2], [0.1]), r"shapes are \(2,\) and \("),
    "pool of none": (lambda trace: alpha.entropy_alpha([], []), "at least one model"),
    "pool with NaN": (
        lambda trace: alpha.entropy_alpha([0.1, np.nan], [0.1, 0.2]),
        "stability must be finite",
    ),
    "ragged pool": (lambda trace: alpha.leaders([[1], [1, 2]], [1]), "stability must hold numbers"),
    "share of a number": (lambda trace: alpha.share_first(0.5, 0.5), "stability must be a vector"),
    "rank of nobody": (
        lambda trace: alpha.rank_steps(*POOL, 3),
        "model is 3; there are 3",
    ),
    "rank of text": (lambda trace: alpha.rank_steps(*POOL, "a"), WHOLE.format("model", "'a'")),
    "metric of text": (
        lambda trace: alpha.common_alpha(
            "cross_validated", range(20), range(20), validation=["a"] * 20, test=range(20)
        ),
        "the validation metric must hold numbers",
    ),
    "window of an α": (
        lambda trace: adaptive_alphas(*POOL, "std", 2.5),
        WHOLE.format("window", "2.5") + " from 2",
    ),
    "series of text": (
        lambda trace: adaptive_alphas(["a"], [0.1], "std"),
        "stability must hold numbers",
    ),
    "chunk of True": (
        lambda trace: PROBED["mas"](mlp(), probe(), chunk=True),
        WHOLE.format("chunk", "True"),
    ),
    "a batch for a probe": (
        lambda trace: PROBED["fisher"](mlp(), torch.ones(2, INPUTS)),
        "probe is a Tensor; give the samples and their loss",
    ),
    "a batch to ablate on": (
        lambda trace: ablation_rises(mlp(), torch.ones(2, INPUTS)),
        "probe is a Tensor; give the samples and their loss",
    ),
    "no model to ablate": (bad_model(ablation_rises), "model is a list; give a torch.nn.Module"),
    "no model for Fisher": (bad_model(PROBED["fisher"]), "model is a list; give a torch.nn.Module"),
    "repeats of True": (
        lambda trace: permutation_rises(mlp(), probe(), repeats=True),
        WHOLE.format("repeats", "True"),
    ),
    "seed of text": (
        lambda trace: permutation_rises(mlp(), probe(), seed="a"),
        WHOLE.format("seed", "'a'"),
    ),
    "xi of text": (
        lambda trace: SynapticIntelligence("small"),
        "xi is 'small'; .* positive",
    ),
    "estimator without a name": (
        lambda trace: importance_estimator(lambda theta, gradient: theta.abs()),
        "name is a function; give the estimator a name",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_argument(trace, name):
    call, words = CALLS[name]
    with pytest.raises(TraceError, match=words):
        call(trace)
