"""Ablation of the recipe: LeNet-300-100 at one size, one part changed at a time.

    python -m benchmarks.records.ablation --epochs 8 --target-bytes 6000 --seeds 2

Errors are those of the last 5,000 training images; the test images are not used. Every run is a run of
`benchmarks.records.run`. Its files go to ``out/ablation``, and the table to ``out/ablation/ablation.json``. A run whose
files exist is not repeated: delete the folder after a change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.environment import environment

FOLDER = Path("out/ablation")
VARIANTS: dict[str, tuple[str, ...]] = {
    "everything": (),
    "no soft stage": ("--schedule", "soft_until=0"),
    "no teacher": ("--distillation", "0"),
    "no shifts": ("--no-augmentation",),
    "no pull to the means in the hard stage": ("--schedule", "hard_pull=0"),
    "pull ten times as strong": ("--schedule", "hard_pull=7"),
    "no codebook tuning": ("--schedule", "tune_rate=0"),
    "size reached at 45 % instead of 65 %": ("--schedule", "target_at=0.45"),
    "size reached at 90 % instead of 65 %": ("--schedule", "target_at=0.9"),
    "no sensitivities": ("--schedule", "sensitivity_power=0"),
    "sensitivities to the power of 0.75 instead of 0.5": ("--schedule", "sensitivity_power=0.75"),
    "sensitivities to the power of 1 instead of 0.5": ("--schedule", "sensitivity_power=1"),
    "4 components": ("--components", "4"),
    "16 components": ("--components", "16"),
    "learning rate 7e-4": ("--learning-rate", "7e-4"),
}


def run(label: str, options: tuple[str, ...], arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    name = f"{list(VARIANTS).index(label)}_{seed}"
    command = [sys.executable, "-m", "benchmarks.records.run", "lenet_300_100", "--validate-only", "--name", name]
    command += ["--folder", str(FOLDER), "--seed", str(seed), "--epochs", str(arguments.epochs)]
    command += ["--target-bytes", str(arguments.target_bytes), "--learning-rate", "1.2e-3"]
    command += ["--schedule", "target_at=0.65", *options]
    written = FOLDER / f"lenet_300_100_{name}.json"
    if not written.exists():
        subprocess.run(command, check=True, capture_output=True)
    figures = json.loads(written.read_text())
    return {key: figures[key] for key in ("file_bytes", "validation_error_percent")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--target-bytes", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    rows = []
    for label, options in VARIANTS.items():
        runs = [run(label, options, arguments, seed) for seed in range(arguments.seeds)]
        errors = [one["validation_error_percent"] for one in runs]
        rows.append({"variant": label, "mean_error_percent": statistics.mean(errors), "runs": runs})
        print(f"{label:50} {rows[-1]['mean_error_percent']:.2f}  {errors}", flush=True)
    report = {"settings": vars(arguments), "rows": rows, "environment": environment()}
    (FOLDER / "ablation.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
