"""What a training printed, without the secrets of its environment.

A model's own code may print anything; its last lines are kept with a failed training, and shown in
a report that is passed on. Secrets that are known by the name of their variable are taken out of
them. That is a net and no wall: a secret that is read from a file, or printed in another form,
stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

SHORTEST = 8
"""Characters of a value that is looked for: a shorter one stands in texts by chance."""

_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY|PRIVATE_KEY)"
    r"(_|$)|^PGPASSWORD$",
    re.IGNORECASE,
)


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with each secret of the environment (this process's by default) replaced by its
    variable's name: ``<WANDB_API_KEY>``.
    """
    if not text:
        return text
    found = os.environ if environment is None else environment
    values = {
        value: name
        for name, value in found.items()
        if len(value) >= SHORTEST
        and _SECRET.search(name)
        # A path to a file with the secret isn't one.
        and not os.path.isabs(value)
    }
    # The longer first, as one may be a part of another.
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, f"<{values[value]}>")
    return text
