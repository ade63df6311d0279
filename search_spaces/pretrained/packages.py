"""Other packages: what to install where one is missing, and how to keep them quiet."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from search_spaces.errors import SpaceError

_INSTALL = {"timm": "pip install timm"}


@contextmanager
def needed(*packages: str) -> Iterator[None]:
    """Around an import of these packages: says what to install where they are missing."""
    try:
        yield
    except ImportError as error:
        # A package that is there and fails on import has another story to tell.
        top = (error.name or "").partition(".")[0]
        if top not in packages:
            raise SpaceError(
                f"pretrained needs {' and '.join(packages)}, which can't be imported: {error}"
            ) from error
        install = _INSTALL.get(top, "pip install 'tracerank[pretrained]'")
        raise SpaceError(f"pretrained needs {top}, which isn't installed: {install}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, Hugging Face's packages write neither warnings nor progress bars."""
    with needed("transformers", "huggingface_hub"):
        from huggingface_hub.utils.tqdm import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
        from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    downloads = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        # Those of transformers carry the hub's with them.
        enable_progress_bars() if downloads else disable_progress_bars()
