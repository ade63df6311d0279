"""Compiles ``kernel.c`` when the package is built, with the C compiler that the package ``ziglang``
brings, so that no compiler has to be on the machine.

It is built for the processors' common baseline and an old C library, with wider instruction sets
chosen at run time, so that what is built here runs elsewhere. Where the compiler fails, the package
is installed without it, and says so.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

FLAGS = ("-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-sanitize=undefined", "-s")


class BuildKernel(build_ext):  # type: ignore[misc]
    """Builds the one extension, which is a plain library and needs no header of Python's."""

    def build_extension(self, ext: Extension) -> None:
        """Compile it to where setuptools wants it."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-mcpu=baseline"]
        if sys.platform == "linux":
            command += ["-target", f"{platform.machine()}-linux-gnu.2.17"]
        try:
            subprocess.run(  # noqa: S603
                [*command, "-o", str(target), *ext.sources, "-lm"],
                check=True,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            words = getattr(error, "stderr", None) or error
            print(f"tracerank: no compiled kernel, PyTorch's operations serve: {words}")
