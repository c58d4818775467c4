"""Run all micro-benchmarks: ``python -m benchmarks.micro``. JSON goes to out/micro."""

from __future__ import annotations

from benchmarks.micro import em, pull, training_step


def main() -> None:
    for benchmark in (em, pull, training_step):
        benchmark.main()


if __name__ == "__main__":
    main()
