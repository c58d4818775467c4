"""The benchmarks that the summary is made of: what to run, where its JSON is, and what it depends on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One script that writes JSON.

    Parameters
    ----------
    name : str
        What ``--only`` calls it, and the name of its file in ``benchmarks/results``.
    module : str
        The script, run as ``python -m``.
    output : str
        Where it writes, from the root of the repository.
    minutes : float
        How long it takes on two cores, about.
    """

    name: str
    module: str
    output: str
    minutes: float

    @property
    def result(self) -> Path:
        """Where its JSON is kept."""
        return RESULTS / f"{self.name}.json"


JOBS = (
    Job(name="clustering", module="benchmarks.micro.em", output="out/micro/em.json", minutes=1.5),
    Job(name="pull", module="benchmarks.micro.pull", output="out/micro/pull.json", minutes=2),
    Job(
        name="training_step", module="benchmarks.micro.training_step", output="out/micro/training_step.json", minutes=1
    ),
    Job(name="encodings", module="benchmarks.encodings.size", output="out/encodings/size.json", minutes=1),
    Job(name="loading", module="benchmarks.encodings.load", output="out/encodings/load.json", minutes=6),
)
"""In the order in which they run."""

QUICK = ("clustering", "pull", "training_step", "encodings")
"""Those of ``make bench-quick``: under ten minutes together."""


def key_of(job: Job) -> str:
    """Digest of everything in the repository that the job's numbers may depend on: the package, and the benchmarks."""
    digest = hashlib.sha256(job.module.encode())
    own = ROOT / Path(*job.module.split(".")[:2])
    folders = (ROOT / "sws_compress", own if own.is_dir() else own.parent)
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
