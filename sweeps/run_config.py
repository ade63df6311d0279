"""The configuration of a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.config import SweepConfig, load_config
from sweeps.config_messages import ConfigError
from sweeps.run_directory import RunDirectory, doctor_command


def load_run_config(
    run: RunDirectory, overrides: Mapping[str, Any] | None = None, *, as_data: bool = False
) -> SweepConfig:
    """The configuration of the sweep in a run directory; ``overrides`` and ``as_data`` as in
    `SweepConfig.from_dict`.

    Raises ConfigError, which also says how a damaged one can be had again.
    """
    try:
        return load_config(run.configuration, overrides, as_data=as_data)
    except ConfigError as error:
        hint = f"if this is damage, see what can be had with: {doctor_command(run.path)}"
        raise ConfigError(error.source, [*error.problems, hint]) from None
