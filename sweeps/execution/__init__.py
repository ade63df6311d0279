"""Ray Tune: every training runs as a Tune trial on a reused actor. All that imports Ray."""

import os

_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "1000000000",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Ray reads some of these while it is imported.
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

from sweeps.execution.run import execute  # noqa: E402

__all__ = ["execute"]
