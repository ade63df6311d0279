"""Which ranking it is: a hash of what it says of the models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_HASHED = ("schema", "alpha", "alpha_source", "reading", "models", "excluded")


def fingerprint(ranking: Mapping[str, Any]) -> str:
    """SHA-256 of what ``ranking.json`` says of the models, in hexadecimal: their order, ranks and
    figures, α, and who was left out and why.

    Warnings and the validity panel are not in it: their words may change with a version. Raises
    KeyError where something is missing.
    """
    kept = {name: ranking[name] for name in _HASHED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
