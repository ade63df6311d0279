"""Layers and blocks by their rule."""

import pytest

from trace_core.names import block_of, layer_of


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [("weight", ""), ("conv1.weight", "conv1"), ("net.0.weight", "net.0"), ("", "")],
)
def test_layer(tensor, layer):
    assert layer_of(tensor) == layer


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("transformer.h.3.attn.c_attn", "transformer.h.3"),
        ("layer1.0.conv1", "layer1.0"),
        ("layer1.0.downsample.1", "layer1.0"),
        ("net.0", "net.0"),
        ("0", "0"),
        ("12.attn", "12"),
        ("bert.embeddings.word", "bert.embeddings"),
        ("bert.pooler.dense", "bert.pooler"),
        ("bert.pooler", "bert"),
        ("conv1", "conv1"),
        ("", ""),
    ],
)
def test_block(layer, block):
    assert block_of(layer) == block


def test_block_of_a_block_with_a_number_is_itself():
    for layer in ("transformer.h.3.attn", "net.0", "0"):
        assert block_of(block_of(layer)) == block_of(layer)
