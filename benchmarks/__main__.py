"""Run every benchmark and print its table: ``make bench``."""

from __future__ import annotations

from benchmarks import sweep_overhead, tracer_overhead

if __name__ == "__main__":
    print(tracer_overhead.table())
    print()
    print(sweep_overhead.table())
