"""The modules of the EfficientNet-lite checkpoints, for the setting `builder` of `pretrained`.

The example images.yaml names it; the packages it needs are those of models.txt.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn


def efficientnet(checkpoint: Path) -> nn.Module:
    """The EfficientNet-lite that a file such as efficientnet-lite0-57934424.pth is of."""
    from efficientnet_lite_pytorch import EfficientNet

    found = re.search(r"efficientnet-lite\d", checkpoint.name)
    if found is None:
        raise ValueError(f"{checkpoint.name} isn't named after an EfficientNet-lite")
    model: nn.Module = EfficientNet.from_name(found[0])
    return model
