"""Run the benchmarks that are out of date, and write docs/benchmarks.md.

    python -m benchmarks [--quick] [--only NAME ..] [--again] [--list]

Each script runs in a process of its own. Its JSON goes to ``benchmarks/results``, with the digest of the sources that
it was measured with: a script whose digest is there is not run again, so that a run that was stopped goes on there.
The page is written in any case, from what is there and from the results of the larger benchmarks, which have scripts
of their own (`benchmarks.models.opponents`, `benchmarks.training`, `benchmarks.records`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.summary.jobs import JOBS, QUICK, ROOT, Job, key_of
from benchmarks.summary.page import write_page


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [job.name for job in JOBS]
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}: under ten minutes")
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME", help=", ".join(names))
    parser.add_argument("--again", action="store_true", help="run also what is up to date")
    parser.add_argument("--list", action="store_true", help="say what would run, and about how long")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Job]:
    """The jobs that are asked for and out of date."""
    asked = set(options.only or (QUICK if options.quick else [job.name for job in JOBS]))
    return [job for job in JOBS if job.name in asked and (options.again or not up_to_date(job))]


def up_to_date(job: Job) -> bool:
    """Whether the kept result was measured with the present sources."""
    return job.result.exists() and json.loads(job.result.read_text())["key"] == key_of(job)


def run(job: Job) -> None:
    """Run a job and keep its JSON; an error of the script ends the run."""
    subprocess.run([sys.executable, "-m", job.module], check=True, cwd=ROOT)
    found = json.loads((ROOT / job.output).read_text())
    job.result.parent.mkdir(exist_ok=True)
    part = job.result.with_suffix(".part")
    part.write_text(json.dumps({"key": key_of(job), **found}, indent=1) + "\n")
    shutil.move(part, job.result)


def main() -> None:
    options = parse_arguments()
    jobs = chosen(options)
    for number, job in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {job.name}: python -m {job.module}, about {job.minutes:g} minutes", flush=True)
        if not options.list:
            started = time.perf_counter()
            run(job)
            print(f"[{number}/{len(jobs)}] {job.name}: {time.perf_counter() - started:.0f} s", flush=True)
    if not options.list:
        print(f"wrote {write_page().relative_to(ROOT)}")


if __name__ == "__main__":
    main()
