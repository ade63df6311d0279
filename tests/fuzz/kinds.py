"""All that is fuzzed."""

from __future__ import annotations

import checkpoint_files
import command_lines
import configurations
import review_requests
import run_files
import trace_files
import yaml_files
from fuzzing import Kind

MODULES = (
    *(configurations, yaml_files, trace_files, checkpoint_files, run_files, command_lines),
    review_requests,
)
KINDS: list[Kind] = [kind for module in MODULES for kind in module.KINDS]
NAMES = [kind.name for kind in KINDS]


def end() -> None:
    """End what was started for them."""
    review_requests.end()
