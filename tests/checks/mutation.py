"""Mutants of quantize, mixture and codec that the tests of these rooms do not notice.

    python tests/checks/mutation.py [--mutants 25] [--seed 0]

mutmut makes the mutants, each a small change in one function, and runs the tests that call it; `setup.cfg` names the
files and the tests. This script draws a random sample of each file, without mutants that only change a text. It prints
one line per file, and then what each survivor changes. Kernels are left out because they are compiled. Constants of
modules are left out because mutmut only changes functions. Results are kept in `mutants/`; remove it to start afresh.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
UNNOTICED = {"survived", "no tests", "suspicious"}
"""Results of mutants that no test has noticed, as mutmut calls them."""


def changed_lines(difference: str) -> list[str]:
    """The lines that a mutant removes and adds."""
    return [line for line in difference.splitlines() if re.match(r"[-+](?![-+])", line)]


def changes_text_only(difference: str) -> bool:
    """Whether a mutant only changes a string, or what an error says."""
    removed, added = ([line[1:].strip() for line in changed_lines(difference) if line[0] == sign] for sign in "-+")
    if [line.lower() for line in removed] == [line.lower().replace("xx", "") for line in added]:
        return True
    text_left_out = added in ([], ["None"], ["None,"]) and all(re.match('f?"', line) for line in removed)
    return text_left_out or any(re.search(r"\w+Error\(\s*(None)?\s*\)", line) for line in added)


def generate() -> dict[str, list[str]]:
    """Write all mutants; their names by file."""
    from mutmut import __main__ as mutmut

    Path("mutants").mkdir(exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.setup_source_paths()
    mutmut.create_mutants(WORKERS)
    _, files = mutmut.collect_source_file_mutation_data(mutant_names=())
    return {path: list(data.exit_code_by_key) for path, data in files.items() if data.exit_code_by_key}


def sample(names: list[str], count: int, seed: int) -> list[str]:
    """Names of ``count`` random mutants that change more than a text; all of them for 0."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    shuffled = random.Random(seed).sample(sorted(names), len(names))
    chosen: list[str] = []
    for name in shuffled:
        if count and len(chosen) == count:
            break
        if not changes_text_only(get_diff_for_mutant(name)):
            chosen.append(name)
    return chosen


def report(chosen: dict[str, list[str]]) -> None:
    """Print a line per file, then what every survivor changes."""
    from mutmut import __main__ as mutmut
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code

    _, files = mutmut.collect_source_file_mutation_data(mutant_names=())
    survivors = {}
    for path, names in chosen.items():
        results = {name: status_by_exit_code[files[path].exit_code_by_key[name]] for name in names}
        counts = Counter(results.values())
        print(f"{path}: {len(names)} mutants, " + ", ".join(f"{count} {status}" for status, count in counts.items()))
        survivors[path] = [name for name, status in results.items() if status in UNNOTICED]
    for path, names in survivors.items():
        for name in names:
            print(f"\n{path}: {name.rpartition('.')[2]}: {status_by_exit_code[files[path].exit_code_by_key[name]]}")
            print("\n".join(changed_lines(get_diff_for_mutant(name))))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutants", type=int, default=25, help="mutants of each file; 0 for all of them")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mutmut import __main__ as mutmut

    chosen = {path: sample(names, options.mutants, options.seed) for path, names in generate().items()}
    chosen = {path: names for path, names in chosen.items() if names}
    mutmut._run([name for names in chosen.values() for name in names], WORKERS)
    report(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
