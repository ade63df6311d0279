from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import (
    CONVOLUTIONS,
    PRETRAINED,
    RECURRENT,
    SOURCE,
    Astray,
    Convolutions,
    bert,
    build,
    image_task,
    language_task,
    number_task,
    problems,
    settings,
    text_task,
)

from search_spaces import Choice, Space, SpaceError, TaskShape, code_hash


def space(given: dict[str, Any]) -> Space:
    return Space.parse({"architecture": {"pretrained": given}, "learning_rate": 0.1})


def told(given: dict[str, Any], task: Any = None) -> str:
    found = problems(text_task() if task is None else task, given)
    assert len(found) == 1, found
    return found[0].removeprefix("space.architecture.pretrained.")


def test_a_control_for_every_architecture(tmp_path: Path) -> None:
    one, two = bert(tmp_path / "one"), bert(tmp_path / "two", seed=2)
    other = bert(tmp_path / "other", hidden_size=16)
    config = json.loads((two / "config.json").read_text())
    config |= {"_name_or_path": "elsewhere", "dtype": "bfloat16", "classifier_dropout": None}
    (two / "config.json").write_text(json.dumps(config))
    names = [str(one), str(two), str(other)]
    parsed = space({"checkpoint": names, "from_scratch": True})
    checkpoints = parsed.architectures["pretrained"]["checkpoint"]
    assert checkpoints == Choice((*names, f"scratch:{one}", f"scratch:{other}"))
    assert "from_scratch" not in parsed.architectures["pretrained"]
    assert Space.parse(parsed.to_yaml()) == parsed
    written = [str(one), f"scratch:{two}"]
    found = space({"checkpoint": written, "from_scratch": True})
    assert found.architectures["pretrained"]["checkpoint"] == Choice(tuple(written))
    without = space({"checkpoint": names, "from_scratch": False})
    assert without.architectures["pretrained"]["checkpoint"] == Choice(tuple(names))


@pytest.mark.parametrize("value", [[True, False], 1, "yes", {"int": [0, 1]}])
def test_from_scratch_is_true_or_false(value: Any, checkpoints: dict[str, Path]) -> None:
    given = {"checkpoint": str(checkpoints["bert"]), "from_scratch": value}
    assert told(given).startswith("from_scratch: got ")
    assert told(given).endswith("; must be true or false")


def test_the_settings_rules() -> None:
    with pytest.raises(SpaceError) as caught:
        space({"tune": "lore", "layer_decay": 0, "chekpoint": "x"})
    message = str(caught.value)
    assert "chekpoint: unknown setting of pretrained 'chekpoint'" in message
    assert "Did you mean checkpoint?" in message
    with pytest.raises(SpaceError) as caught:
        space({"tune": "lore", "layer_decay": 0})
    message = str(caught.value)
    assert "pretrained.checkpoint: missing; must be text" in message
    assert "tune: got 'lore'; must be one of full, head, lora" in message
    assert "layer_decay: got 0; must be a number in (0, 1]" in message


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"tune": "full", "lora_rank": 4}, {"tune": "full", "lora_rank": 0}),
        ({"tune": "lora", "lora_rank": 4}, {"tune": "lora", "lora_rank": 4}),
        (
            {"tune": "head", "frozen_depth": 2, "layer_decay": 0.5},
            {"tune": "head", "frozen_depth": 0, "layer_decay": 1.0, "lora_rank": 0},
        ),
        ({"image_size": 9, "norm_momentum": 0.1}, {"image_size": 0, "norm_momentum": 0.0}),
        ({"builder": "a:b", "head": "c"}, {"builder": "", "head": ""}),
        ({"max_length": 9, "pooling": "first"}, {"max_length": 9, "pooling": "first"}),
    ],
)
def test_settings_that_change_nothing_have_one_value(
    checkpoints: dict[str, Path], changes: dict[str, Any], kept: dict[str, Any]
) -> None:
    given = settings(checkpoints["bert"], **changes)
    assert SOURCE.canonical(given) == {**given, "lora_rank": 0, **kept}


def test_settings_of_images_and_of_the_users_models(checkpoints: dict[str, Path]) -> None:
    changes: dict[str, Any] = {
        "max_length": 9,
        "pooling": "last",
        "image_size": 9,
        "builder": "a:b",
    }
    found = SOURCE.canonical(settings(checkpoints["vit"], **changes))
    expected = {"max_length": 128, "pooling": "auto", "image_size": 9, "builder": ""}
    assert {name: found[name] for name in expected} == expected
    found = SOURCE.canonical(settings(checkpoints["cnn"], **changes))
    assert found["builder"] == "a:b"


def test_content_is_told_wherever_it_lies(tmp_path: Path) -> None:
    one = bert(tmp_path / "one")
    there = tmp_path / "deep" / "copy"
    shutil.copytree(one, there)
    first = SOURCE.identity(settings(one))
    assert first == SOURCE.identity(settings(there))
    assert str(one) not in str(first)
    scratch = SOURCE.identity(settings(f"scratch:{one}"))
    assert scratch != first
    changes: list[tuple[str, Any]] = [
        ("model.safetensors", lambda: _changed_weights(there)),
        ("tokenizer.json", lambda: _edited(there / "tokenizer.json", "[UNK]", "[UNC]")),
        ("config.json", lambda: _edited(there / "config.json", "gelu", "relu")),
    ]
    seen = [first]
    for name, change in changes:
        change()
        found = SOURCE.identity(settings(there))
        assert found not in seen, name
        seen.append(found)
        same = SOURCE.identity(settings(f"scratch:{there}")) == scratch
        assert same == (name == "model.safetensors")


def _changed_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_note_in_the_configuration_changes_nothing(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert")
    before = SOURCE.identity(settings(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_version": "9"}))
    assert SOURCE.identity(settings(folder)) == before


def test_the_builders_code_is_told(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    told = []
    for name, text in (("own_one", "A = 1"), ("own_two", "A = 2")):
        (tmp_path / f"{name}.py").write_text(text)
        found = SOURCE.identity(settings(checkpoints["cnn"], builder=f"{name}:build"))
        told.append(str(found["builder"]).split()[1])
    assert told[0] != told[1]


def test_what_prepared_data_depends_on(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def of(checkpoint: object, **changes: Any) -> dict[str, Any]:
        return SOURCE.preparation(settings(checkpoint, **changes))

    tuned = bert(tmp_path / "tuned", seed=3)
    assert of(checkpoints["bert"]) == of(tuned) == of(f"scratch:{tuned}", tune="head")
    assert of(checkpoints["bert"]) != of(checkpoints["gpt2"])
    assert of(checkpoints["bert"]) != of(checkpoints["bert"], max_length=64)
    assert of(checkpoints["vit"]) != of(checkpoints["resnet"])
    assert of(checkpoints["vit"]) == of(checkpoints["vit"], image_size=8)
    found = of(checkpoints["cnn"], builder=CONVOLUTIONS)
    assert found != of(checkpoints["cnn"], builder=CONVOLUTIONS, image_size=9)
    assert code_hash(CONVOLUTIONS) in str(found["builder"])


def test_names_that_are_no_checkpoint(tmp_path: Path) -> None:
    rule = "must be a folder with config.json, a name on the Hugging Face hub, timm:NAME, a state"
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    for name, said in (
        ("no/such/folder/", "checkpoint: no file or folder 'no/such/folder/'; looked for in "),
        (str(tmp_path / "gone"), "checkpoint: no file or folder "),
        ("weights.safetensors", "checkpoint: no file or folder 'weights.safetensors'"),
        (str(tmp_path / "empty"), "has no config.json"),
        (str(tmp_path / "notes.txt"), "is another kind of file"),
        ("pkg:no_such_package/x", "no package no_such_package is installed"),
        ("timm:", "checkpoint: got 'timm:'"),
    ):
        assert said in told({"checkpoint": name})
        assert rule in told({"checkpoint": name})
    assert "can't be read as a JSON object" in told({"checkpoint": str(tmp_path / "broken")})


def test_a_hub_that_cant_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = told({"checkpoint": "some-team/no-such-model"})
    assert found.startswith(
        "checkpoint: got 'some-team/no-such-model'; no such folder here, it isn't in Hugging "
        "Face's cache, and the hub doesn't give it: "
    )


def test_the_hubs_cache_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = tmp_path / "models--team--tiny-bert"
    bert(hub / "snapshots" / "abc")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    import huggingface_hub

    plain = huggingface_hub.snapshot_download

    def cached(*args: Any, **options: Any) -> str:
        assert options["local_files_only"], "the hub was asked"
        return str(plain(*args, cache_dir=tmp_path, **options))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    given = {"checkpoint": "team/tiny-bert", "from_scratch": True}
    assert problems(text_task(), given) == []
    here = str(hub / "snapshots" / "abc")
    assert SOURCE.identity(settings("team/tiny-bert")) == SOURCE.identity(settings(here))


def test_checkpoints_and_tasks_that_dont_go_together(checkpoints: dict[str, Path]) -> None:
    bert_given = {"checkpoint": str(checkpoints["bert"])}
    vit_given = {"checkpoint": str(checkpoints["vit"])}
    lstm = {"checkpoint": str(checkpoints["lstm"]), "builder": RECURRENT}
    assert "which reads texts, and the task has images" in told(bert_given, image_task())
    assert "which reads texts, and the task has numbers" in told(bert_given, number_task((5,)))
    assert "which reads images, and the task has texts" in told(vit_given, text_task())
    assert "which reads images, and the task has numbers" in told(vit_given, number_task((5,)))
    assert "which reads numbers or images, and the task has texts" in told(lstm, text_task())
    assert "must be causal, such as gpt2, for language" in told(bert_given, language_task(["ab"]))
    assert "can't read inputs of shape (5,)" in told(lstm, number_task((5,)))
    assert "reads images of 3 channels, and the task's have 2" in told(vit_given, image_task(2))
    assert told({**vit_given, "image_size": 2}, image_task()).startswith(
        "checkpoint: its model can"
    )
    assert problems(number_task((6, 4)), lstm) == []
    assert problems(language_task(["ab"]), {"checkpoint": str(checkpoints["gpt2"])}) == []


def test_an_encoder_can_be_told_to_be_causal(tmp_path: Path) -> None:
    folder = bert(tmp_path / "bert", is_decoder=True)
    assert problems(language_task(["abc"]), {"checkpoint": str(folder)}) == []
    model = build(language_task(["abc"]), folder).eval()
    tokens = torch.tensor([[2, 5, 6, 7], [2, 5, 9, 9]])
    torch.testing.assert_close(model(tokens)[0, :2], model(tokens)[1, :2])


def test_depth_length_and_rank(checkpoints: dict[str, Path]) -> None:
    given: dict[str, Any] = {"checkpoint": str(checkpoints["bert"])}
    assert told({**given, "frozen_depth": [0, 3]}).startswith(
        "frozen_depth: got 3; must be at most 2: the blocks that "
    )
    assert told({**given, "max_length": {"int": [16, 256]}}).startswith(
        "max_length: got 256; must be at most 128: the positions that "
    )
    ranks = {**given, "tune": ["full", "lora"], "lora_rank": [0, 4]}
    assert told(ranks) == "lora_rank: got 0; must be at least 1 under lora"
    assert problems(text_task(), {**ranks, "tune": ["full", "head"]}) == []
    assert problems(text_task(), {**given, "frozen_depth": 3, "tune": "head"}) == []
    assert told({**given, "frozen_depth": 2, "tune": "lora"}).startswith(
        "frozen_depth: got 2; must be at most 1 under lora, which adapts the blocks that aren't"
    )
    resnet = {"checkpoint": str(checkpoints["resnet"]), "tune": "lora"}
    assert told(resnet, image_task()).startswith("tune: got lora, which adapts linear layers, and")
    lstm = {"checkpoint": str(checkpoints["lstm"]), "builder": RECURRENT, "frozen_depth": 1}
    assert "must be at most 0" in told(lstm, number_task((6, 4)))


def test_positions_after_the_paddings_place(tmp_path: Path) -> None:
    from tiny_checkpoints import _save
    from transformers import RobertaConfig, RobertaForMaskedLM

    folder = bert(tmp_path / "roberta")
    config = RobertaConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=34,
    )
    _save(RobertaForMaskedLM, config, folder, 0)
    given = {"checkpoint": str(folder), "max_length": 33}
    assert "max_length: got 33; must be at most 32" in told(given)
    model = build(text_task(), folder, max_length=32)
    assert model(torch.full((1, 32), 5)).isfinite().all()


def test_builders(checkpoints: dict[str, Path]) -> None:
    def said(builder: str, **given: Any) -> str:
        checkpoint = str(checkpoints["cnn"])
        return told({"checkpoint": checkpoint, "builder": builder, **given}, image_task())

    assert SOURCE.identity(settings(checkpoints["cnn"]))["builder"] == ""
    assert said("").startswith("builder: missing; a state dict's file needs a function without")
    assert "builder: got 'nn'; must be an import path package.module:build" in said("nn")
    assert "cannot import module no_such_module" in said("no_such_module:build")
    assert "has no Recurent; expected a function" in said("tiny_checkpoints:Recurent")
    assert "TypeError" in said("tiny_checkpoints:bert")
    assert "returned {}; expected a torch.nn.Module" in said("builtins:dict")
    assert "the model has no such module; its last Linear are between, classif" in said(
        CONVOLUTIONS, head="fc"
    )
    assert "a Conv2d without a Linear" in said(CONVOLUTIONS, head="stem")


def test_a_state_dict_with_a_builder_of_its_own(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    one = f"{checkpoints['cnn']}@{CONVOLUTIONS}"
    torch.save(Astray().state_dict(), tmp_path / "other@home.pt")
    two = f"{tmp_path / 'other@home.pt'}@tiny_checkpoints:Astray"
    given = {"checkpoint": [one, two], "from_scratch": True, "head": "classifier"}
    found = space(given).architectures["pretrained"]["checkpoint"].to_yaml()
    assert found == [one, two, f"scratch:{one}", f"scratch:{two}"]
    assert problems(image_task(), given) == []
    assert isinstance(build(image_task(), one).backbone, Convolutions)
    assert isinstance(build(image_task(), two, head="classifier").backbone, Astray)
    assert SOURCE.prepare(image_task(), settings(one)).train.inputs.shape == (12, 3, 8, 8)
    by_setting = settings(checkpoints["cnn"], builder=CONVOLUTIONS)
    identities = [SOURCE.identity(SOURCE.canonical(s)) for s in (settings(one), by_setting)]
    assert identities[0] == identities[1] != SOURCE.identity(settings(two))
    folder = told({"checkpoint": f"{checkpoints['bert']}@{CONVOLUTIONS}"})
    assert folder.endswith("is a folder, and needs no builder")


def test_a_head_that_is_not_the_last_part(tmp_path: Path) -> None:
    torch.save(Astray().state_dict(), tmp_path / "astray.pt")
    given = {"checkpoint": str(tmp_path / "astray.pt"), "builder": "tiny_checkpoints:Astray"}
    assert told(given, image_task()) == (
        "head: got ''; without it the model gives 10 features, and it reads 4, so that it isn't "
        "the last part; must name the head"
    )
    assert problems(image_task(), {**given, "head": "classifier"}) == []


def test_every_checkpoint_that_is_wrong_is_named(checkpoints: dict[str, Path]) -> None:
    names = [str(checkpoints["vit"]), str(checkpoints["bert"]), str(checkpoints["resnet"])]
    found = problems(text_task(), {"checkpoint": names})
    assert len(found) == 2
    assert all("which reads images, and the task has texts" in problem for problem in found)


def test_missing_packages_are_named(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    given: dict[str, Any] = {"checkpoint": str(checkpoints["bert"]), "tune": "lora"}
    install = "pip install 'tracerank[pretrained]'"
    assert told(given) == f"pretrained needs peft, which isn't installed: {install}"
    monkeypatch.setitem(sys.modules, "timm", None)
    assert told({"checkpoint": "timm:x"}, image_task()) == (
        "pretrained needs timm, which isn't installed: pip install timm"
    )
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert told(given) == f"pretrained needs transformers, which isn't installed: {install}"


def test_what_it_fits() -> None:
    assert PRETRAINED.fits(TaskShape((), 0, "language")) is None
    assert PRETRAINED.fits(TaskShape((3, 8, 8), 2, "classification")) is None
    assert "needs texts for language" in str(PRETRAINED.fits(TaskShape((4,), 0, "language")))
