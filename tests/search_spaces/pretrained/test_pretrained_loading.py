"""Weights that don't fit, files that can't be read or trusted: one message each, beforehand."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import (
    CONVOLUTIONS,
    Convolutions,
    batch,
    bert,
    build,
    gpt2,
    image_task,
    problems,
    settings,
    text_task,
)
from transformers import FNetConfig, FNetModel, OPTConfig, OPTModel

from search_spaces import SpaceError
from search_spaces.pretrained.packages import quiet
from search_spaces.pretrained.source import Checkpoints


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    assert found[0].startswith("space.architecture.pretrained.")
    assert "\n" not in found[0]
    return found[0].removeprefix("space.architecture.pretrained.")


def refused(task: Any, checkpoint: Path, **given: Any) -> str:
    """What is said beforehand, and by the building itself."""
    told = only(problems(task, {"checkpoint": str(checkpoint), **given}))
    with pytest.raises(SpaceError) as caught:
        build(task, checkpoint, **given)
    assert str(caught.value) == f"pretrained.{told}"
    return told


def changed(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", {"format": "pt"})


def changed_state(path: Path, change: Any) -> Path:
    torch.save(change(Convolutions().state_dict()), path)
    return path


def test_good_checkpoints_have_no_problems(checkpoints: dict[str, Path]) -> None:
    both = [str(checkpoints["bert"]), str(checkpoints["gpt2"])]
    assert problems(text_task(), {"checkpoint": both, "tune": ["full", "head", "lora"]}) == []
    cnn = {"checkpoint": str(checkpoints["cnn"]), "builder": CONVOLUTIONS, "frozen_depth": [0, 3]}
    assert problems(image_task(), {**cnn, "from_scratch": True}) == []
    for kind in ("vit", "resnet", "convnext"):
        given = {"checkpoint": str(checkpoints[kind]), "image_size": 16}
        assert problems(image_task(), given) == []


def test_checks_draw_nothing(checkpoints: dict[str, Path]) -> None:
    before = torch.get_rng_state()
    cnn = {"checkpoint": str(checkpoints["cnn"]), "builder": CONVOLUTIONS, "from_scratch": True}
    assert problems(image_task(), cnn) == []
    assert problems(text_task(), {"checkpoint": str(checkpoints["bert"]), "tune": "lora"}) == []
    assert torch.equal(before, torch.get_rng_state())


def test_a_missing_tensor(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    gone = "bert.encoder.layer.1.output.dense.weight"
    changed(folder, lambda t: {k: v for k, v in t.items() if k != gone})
    assert refused(text_task(), folder) == (
        f"checkpoint: {folder}: its weights don't fit the model: "
        "1 missing (encoder.layer.1.output.dense.weight)"
    )


def test_tensors_of_another_shape(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    name = "bert.embeddings.word_embeddings.weight"
    changed(folder, lambda t: {**t, name: torch.zeros(7, 32)})
    told = refused(text_task(), folder)
    assert "1 of another shape (embeddings.word_embeddings.weight is (7, 32) and must be" in told
    assert "(40, 32)" in told


def test_blocks_that_the_configuration_lacks(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", num_hidden_layers=3)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    told = refused(text_task(), folder)
    assert "16 unexpected (bert.encoder.layer.2.attention.output.LayerNorm.bias, " in told


@pytest.mark.parametrize("prefix", ["module.", "model.net."])
def test_a_prefix_of_all_keys_is_named(tmp_path: Path, prefix: str) -> None:
    path = changed_state(
        tmp_path / "cnn.pth", lambda s: {f"{prefix}{name}": one for name, one in s.items()}
    )
    told = refused(image_task(), path, builder=CONVOLUTIONS)
    assert told.endswith(f"every key has the prefix '{prefix}' that the model lacks")
    folder = bert(tmp_path / "bert")
    changed(folder, lambda t: {f"{prefix}{name}": one for name, one in t.items()})
    told = refused(text_task(), folder)
    assert told.endswith(f"every key has the prefix '{prefix}bert.' that the model lacks")


def test_a_prefix_that_all_keys_lack(tmp_path: Path) -> None:
    path = tmp_path / "stem.pth"
    torch.save(Convolutions().state_dict(), path)
    assert refused(image_task(), path, builder="tiny_checkpoints:Wrapped").endswith(
        "every key lacks the prefix 'net.' that the model has"
    )


def test_one_key_with_a_prefix_is_not_all(tmp_path: Path) -> None:
    path = changed_state(
        tmp_path / "cnn.pth",
        lambda s: {("x." if name == "stem.bias" else "") + name: one for name, one in s.items()},
    )
    assert refused(image_task(), path, builder=CONVOLUTIONS).endswith(
        "1 missing (stem.bias); 1 unexpected (x.stem.bias)"
    )


def test_a_state_dict_is_loaded_strictly(tmp_path: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del state["stem.bias"]
        return {**state, "more": torch.zeros(1), "between.weight": torch.zeros(6, 5)}

    told = refused(image_task(), changed_state(tmp_path / "a.pt", change), builder=CONVOLUTIONS)
    assert told.endswith(
        "a.pt: its weights don't fit the model: 1 missing (stem.bias); 1 unexpected (more); "
        "1 of another shape (between.weight is (6, 5) and must be (6, 4))"
    )


def test_a_state_dict_in_other_files(tmp_path: Path) -> None:
    state = Convolutions().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "c.bin")
    half = {name: one.half() if one.is_floating_point() else one for name, one in state.items()}
    torch.save({n: one for n, one in half.items() if "tracked" not in n}, tmp_path / "d.pth")
    for name in ("a.safetensors", "b.pt", "c.bin", "d.pth"):
        model = build(image_task(), tmp_path / name, builder=CONVOLUTIONS)
        exact = name != "d.pth"
        expected = state["stem.weight"]
        torch.testing.assert_close(
            model.backbone.stem.weight.detach(), expected, rtol=0 if exact else 1e-3, atol=1e-4
        )
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert (
            problems(image_task(), {"checkpoint": str(tmp_path / name), "builder": CONVOLUTIONS})
            == []
        )


def test_training_never_writes_to_the_file(tmp_path: Path) -> None:
    path = changed_state(tmp_path / "cnn.pth", lambda state: state)
    folder = bert(tmp_path / "bert")
    files = [path, folder / "model.safetensors"]
    before = [file.read_bytes() for file in files]
    for model in (
        build(image_task(), path, builder=CONVOLUTIONS),
        build(text_task(), folder),
    ):
        for parameter in model.parameters():
            parameter.data.zero_()
    assert before == [file.read_bytes() for file in files]


class Runs:
    """What a pickle runs when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.marker, "ran")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "cnn.pth"
    state = {**Convolutions().state_dict(), "more": Runs(marker)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    told = refused(image_task(), path, builder=CONVOLUTIONS)
    assert "might run code" in told
    folder = bert(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(path.read_bytes())
    assert "might run code" in refused(text_task(), folder)
    plain = tmp_path / "plain.bin"
    plain.write_bytes(pickle.dumps(Runs(marker)))
    assert str(plain) in refused(image_task(), plain, builder=CONVOLUTIONS)
    Checkpoints().identity(settings(path, builder=CONVOLUTIONS))
    assert not marker.exists()


def test_a_name_without_end_in_a_pickle_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cnn.pth"
    path.write_bytes(b"\x80\x02c" + b"a" * 100_000 + b"\nb\n.")
    told = refused(image_task(), path, builder=CONVOLUTIONS)
    assert "it names an object by more than 1,000 characters" in told


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(Convolutions(), tmp_path / "whole.pt")
    assert "might run code" in refused(image_task(), tmp_path / "whole.pt", builder=CONVOLUTIONS)


def test_pickled_weights_of_a_folder(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    expected = build(text_task(), folder).state_dict()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert problems(text_task(), {"checkpoint": str(folder)}) == []
    found = build(text_task(), folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def sharded(folder: Path) -> list[Path]:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    parts = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return [folder / file for file in parts]


def test_weights_in_parts(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    expected = build(text_task(), folder).state_dict()
    first, second = sharded(folder)
    found = build(text_task(), folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    whole = second.read_bytes()
    second.write_bytes(whole[:-100])
    told = refused(text_task(), folder)
    assert told.startswith(f"checkpoint: {second} is broken or cut off at {len(whole) - 100:,} b")
    second.unlink()
    told = refused(text_task(), folder)
    assert "names model-2-of-2.safetensors, which" in told
    assert first.exists()


@pytest.mark.parametrize("size", [0, 5, 3000])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_cut_off(tmp_path: Path, suffix: str, size: int) -> None:
    path = tmp_path / f"cnn{suffix}"
    if suffix == ".pth":
        changed_state(path, lambda state: state)
    else:
        save_file(Convolutions().state_dict(), path)
    path.write_bytes(path.read_bytes()[:size])
    assert str(path) in refused(image_task(), path, builder=CONVOLUTIONS)


def test_shards_outside_the_folder(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names '../elsewhere.safetensors'; must be files beside it" in refused(
        text_task(), folder
    )


def test_no_weights_but_a_control(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    assert f"{folder} has no weights: model.safetensors or" in refused(text_task(), folder)
    assert problems(text_task(), {"checkpoint": f"scratch:{folder}"}) == []
    build(text_task(), f"scratch:{folder}")


def test_an_unknown_model(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "brat"}))
    assert "transformers doesn't read model_type 'brat'" in refused(text_task(), folder)


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": 5}, {"hidden_size": "x"}, {"hidden_act": "glue"}]
)
def test_a_configuration_of_no_model(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    assert f"{folder / 'config.json'}: " in refused(text_task(), folder)


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    marker = tmp_path / "marker"
    code = f"from pathlib import Path\nPath({str(marker)!r}).write_text('ran')\n"
    (folder / "own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert "transformers doesn't read model_type 'own'" in refused(text_task(), folder)
    assert not marker.exists()


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_package_of_code_on_the_hub_is_not_looked_for(tmp_path: Path, key: str) -> None:
    change(bert(tmp_path / "bert"), **{key: "someone/kernel"})
    assert problems(text_task(), {"checkpoint": str(tmp_path / "bert")}) == []
    model = build(text_task(), tmp_path / "bert")
    assert model.backbone.config._attn_implementation in ("eager", "sdpa")


def test_what_a_configuration_asks_of_outputs_is_not_heeded(tmp_path: Path) -> None:
    change(bert(tmp_path / "bert"), return_dict=False, output_attentions=True)
    task = text_task()
    outputs = build(task, tmp_path / "bert")(batch(task, tmp_path / "bert"))
    assert outputs.shape == (len(task.data().train), 2)


def test_a_model_that_projects_its_states(tmp_path: Path) -> None:
    gpt2(tmp_path / "opt")
    kept = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "ffn_dim": 48}
    config = OPTConfig(vocab_size=258, word_embed_proj_dim=16, do_layer_norm_before=False, **kept)
    with quiet():
        OPTModel(config).save_pretrained(tmp_path / "opt")
    task = text_task()
    assert problems(task, {"checkpoint": str(tmp_path / "opt")}) == []
    model = build(task, tmp_path / "opt")
    assert model.head.in_features == 16
    assert model(batch(task, tmp_path / "opt")).shape == (len(task.data().train), 2)


def test_a_model_that_would_read_what_fills_up_short_texts(tmp_path: Path) -> None:
    bert(tmp_path / "fnet")
    config = FNetConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=1, intermediate_size=48, type_vocab_size=2
    )
    with quiet():
        FNetModel(config).save_pretrained(tmp_path / "fnet")
    (told,) = problems(text_task(), {"checkpoint": str(tmp_path / "fnet")})
    assert "whose model, fnet, takes no attention mask" in told


def test_quantised_and_two_part_models(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    told = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": told}))
    assert "its weights are quantised" in refused(text_task(), folder)
    (folder / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": True}))
    assert "an encoder with a decoder" in refused(text_task(), folder)


def test_a_tokenizer_that_is_missing_broken_or_too_large(tmp_path: Path) -> None:
    def told() -> str:
        return only(problems(text_task(), {"checkpoint": str(folder)}))

    folder = bert(tmp_path / "bert")
    whole = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer: tokenizer.json, or a vocabulary" in told()
    (folder / "tokenizer.json").write_text(whole[:50])
    assert "its tokenizer isn't read" in told()
    (folder / "tokenizer.json").write_text(whole)
    changes = {"vocab_size": 20}
    larger = tiny_checkpoints.bert(tmp_path / "larger", **changes)
    folder = larger
    assert told().endswith("its tokenizer has 31 tokens, and its model embeddings for 20")


def test_nothing_is_written_to_the_terminal(
    checkpoints: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    given = {"checkpoint": [str(checkpoints["bert"]), str(checkpoints["gpt2"])], "tune": "lora"}
    assert problems(text_task(), given) == []
    for kind in ("bert", "gpt2"):
        model = build(text_task(), checkpoints[kind], tune="lora")
        model(tiny_checkpoints.batch(text_task(["x " * 500]), checkpoints[kind]))
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "weight",
            lambda t: t.fill_(float("nan")),
            "holds NaN or infinity; take a checkpoint from",
        ),
        (
            "bias",
            lambda t: t.index_fill(0, torch.tensor([1]), float("inf")),
            "holds NaN or infinity",
        ),
        ("weight", lambda t: t.to(torch.int8), "is of type int8; must be of floating point"),
        ("weight", lambda t: t.to(torch.complex64), "is of type complex64; must be of floating"),
    ],
)
def test_weights_that_are_no_numbers(tmp_path: Path, name: str, change: Any, words: str) -> None:
    folder = bert(tmp_path / "bert")
    key = f"bert.encoder.layer.0.attention.output.dense.{name}"
    changed(folder, lambda tensors: tensors | {key: change(tensors[key].clone())})
    assert f"'{key}' {words}" in refused(text_task(), folder)
    state = changed_state(
        tmp_path / "s.pt", lambda found: found | {f"stem.{name}": change(found[f"stem.{name}"])}
    )
    assert f"'stem.{name}' {words}" in refused(image_task(), state, builder=CONVOLUTIONS)


def test_what_transformers_says_in_several_lines_is_told(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "x"}))
    (told,) = problems(text_task(), {"checkpoint": str(folder)})
    assert "Validation error for field 'hidden_size': TypeError" in told


def test_each_checkpoint_of_one_tokenizer_must_know_its_tokens(tmp_path: Path) -> None:
    large, small = bert(tmp_path / "large"), bert(tmp_path / "small", vocab_size=38)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (large / name).read_bytes() == (small / name).read_bytes()
    source, given = Checkpoints(), settings(large)
    assert source.preparation(given) != source.preparation(settings(small))
