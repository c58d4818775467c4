"""The two pages of the comparison as Markdown: goals, and every file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.models.opponents.compare import (
    LEAST_TOLERANCE,
    Compare,
    Row,
    at_equal_accuracy,
    at_equal_error,
    loss_of,
    tolerance,
)
from benchmarks.models.opponents.goals import (
    ALONE_LOSS,
    ALONE_RATIO,
    MOST,
    SIZES,
    Group,
    Verdict,
    alone_ratio,
    duel,
    groups,
    has_curve,
    verdicts,
)

Report = dict[str, Any]
OURS = ("weights only", "calibrated")
NAMES = {"weights only": "without inputs", "calibrated": "with inputs"}
FORMS = {False: "as files", True: "after brotli"}

GOALS_HEAD = """# Goals

Written by `python -m benchmarks.models.opponents.render` from `opponents/results`.
[Beside others](README.md#beside-others) says what was measured and what stands out; [OPPONENTS.md](OPPONENTS.md) has
every file. **Bold** cells miss their goal.
"""

SIZES_HEAD = """## Size and score

One file for each goal, asked for by its size or made by default, so that nothing is chosen by the test inputs: how many
times smaller it is, and the change of the score in points. A size may be missed by 2 %.
"""

DUELS_HEAD = """## The smallest files

The smallest file within a loss of the score, after `brotli -11` on both sides, among all that were measured: ours, and
the best of the others. Both are read off the test inputs. Without inputs means that the others saw none either.
Models with fewer than three files of ours are left out here and below.
"""

ACCURACY_HEAD = """## Bytes at equal accuracy

For each file of others, the smallest of ours whose score is not lower, as are the scores of all larger ones of ours, so
that no lucky file is picked: our bytes over theirs, from the lowest to the highest of their files, as files and after
`brotli -11`. The second row says the most that they may be. Scores count as equal up to a tolerance: 0.1 points, or,
where the test is small, the standard error of a difference in a hundredth of its answers. No more is asked for than
the score of the float model. Files of others that lose more than ten points are left out.

Tolerances: {tolerances}, others 0.1.
"""

ERROR_HEAD = """## Bytes at equal error of the outputs

A stricter view: ours has to come as close to the outputs of the float model, even where that changes no score. Our
bytes over those of others, after `brotli -11`, from the lowest to the highest of their files; bold cells would miss the
same goals. "Beyond" counts files that are closer to the float model than our best file that was made. Files that are
worse than our smallest that was made are left out.
"""

PICTURES = """## Pictures

Bytes after `brotli -11` as a part of the float file, against the score. Lines go along the best points of ours; crosses
are files of others. Dotted lines mark the loss of a point, and an eighth and a tenth of the bytes. What loses much
more, and models without files of ours, are left out.

![Bytes against score, a panel per model](images/scores.png)

The same against the error of the outputs (energy of the outputs over that of their error), which tells files apart
whose scores do not differ.

![Bytes against error, a panel per model](images/errors.png)
"""

FILES_HEAD = """# Every file

Written by `python -m benchmarks.models.opponents.render` from `opponents/results`.
[Beside others](README.md#beside-others) says what was measured, and [GOALS.md](GOALS.md) what it says about the goals,
with pictures. Ratios are our bytes over those of the row, after brotli on both sides: at equal accuracy, and at equal
error of the outputs, each with inputs and without. They are empty where ours has no such file, and where the row lost
more than ten points.
"""


def goals_page(found: Sequence[Report]) -> str:
    parts = [GOALS_HEAD, *sentences(found), "", SIZES_HEAD, *size_table(found), "", DUELS_HEAD, *duel_table(found)]
    wide = {name(report): tolerance(name(report)) for report in found if tolerance(name(report)) > LEAST_TOLERANCE}
    tolerances = ", ".join(f"{model} {points:.2f}" for model, points in wide.items())
    parts += ["", ACCURACY_HEAD.format(tolerances=tolerances), *group_table(found, at_equal_accuracy, (False, True))]
    return "\n".join([*parts, "", ERROR_HEAD, *group_table(found, at_equal_error, (True,)), "", PICTURES])


def files_page(found: Sequence[Report]) -> str:
    return "\n".join([FILES_HEAD, *file_table(found), ""])


def sentences(found: Sequence[Report]) -> Iterator[str]:
    """How many models meet each goal, and which do not."""
    goals = [f"{ratio:g}x within {_points(points)}, with inputs" for _, ratio, points in SIZES]
    goals.append(f"{ALONE_RATIO:g}x within {_points(ALONE_LOSS)}, without inputs (silero: 3x)")
    for goal, column in zip(goals, zip(*(verdicts(report["rows"]) for report in found), strict=True), strict=True):
        made = {name(report): each for report, each in zip(found, column, strict=True)}
        missing = [model for model, each in made.items() if each is None]
        met = {model: not each.missed for model, each in made.items() if each is not None}
        yield f"- {goal}: {_tally(met)}." + (f" Not measured: {', '.join(missing)}." if missing else "")
    for group, (_, most) in MOST.items():
        share = "fewer bytes than" if most == 1 else f"at most {most:g} of the bytes of"
        tallies = []
        for brotli, form in FORMS.items():
            made = {name(report): groups(report["rows"], OURS[1], at_equal_accuracy, brotli=brotli) for report in found}
            met = {model: each.met for model, mine in made.items() for each in mine if each.name == group}
            tallies += [f"{form} {_tally(met)}"] if met else []
        if tallies:
            yield f"- At equal accuracy, with inputs, {share} {group}: {'; '.join(tallies)}."


def _tally(met: dict[str, bool]) -> str:
    missed = [model for model, each in met.items() if not each]
    return f"{len(met) - len(missed)} of {len(met)} models" + (f" (**not {', '.join(missed)}**)" if missed else "")


def _points(points: float) -> str:
    return {0.5: "half a point", 1.0: "1 point"}.get(points, f"{points:g} points")


def size_table(found: Sequence[Report]) -> Iterator[str]:
    titles = [f"{ratio:g}x, {points:g} point{'s' * (points > 1)}" for _, ratio, points in SIZES]
    yield _line("model", "bytes", "score %", *titles, "without inputs, 5x, 1/2 point")
    yield "|---" * (4 + len(titles)) + "|"
    for report in found:
        dense, cells = report["rows"][0], [verdict_cell(each) for each in verdicts(report["rows"])]
        if (least := alone_ratio(name(report))) != ALONE_RATIO:
            cells[-1] += f" (goal {least:g}x)"
        yield _line(name(report), f"{dense['bytes']:,}", f"{dense['score']:.2f}", *cells)


def verdict_cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not measured"
    text = f"{verdict.ratio:.1f}x, {verdict.change:+.2f}"
    return f"**{text}**" if verdict.missed else text


def duel_table(found: Sequence[Report]) -> Iterator[str]:
    yield _line("model", "inputs", "within", "ours", "change", "best other", "its bytes", "change", "ratio")
    yield "|---" * 9 + "|"
    for report in found:
        for ours, points in (("calibrated", 1.0), ("calibrated", 2.0), ("weights only", 0.5)):
            if not has_curve(report["rows"], ours):
                continue
            mine, best = duel(report["rows"], ours, points, inputs=ours == "calibrated")
            start = (name(report), "yes" if ours == "calibrated" else "no", f"{points:g}")
            ratio = "" if mine is None or best is None else f"{mine['brotli_bytes'] / best['brotli_bytes']:.2f}"
            ratio = f"**{ratio}**" if ratio and float(ratio) >= 1 else ratio
            yield _line(
                *start, *_cells(report, mine), "" if best is None else best["way"], *_cells(report, best), ratio
            )


def _cells(report: Report, row: Row | None) -> tuple[str, str]:
    if row is None:
        return "none", ""
    return f"{row['brotli_bytes']:,}", f"{-loss_of(report['rows'], row):+.2f}"


def group_table(found: Sequence[Report], compare: Compare, forms: Sequence[bool]) -> Iterator[str]:
    """Ratios of all groups; a row for each model, kind of ours, and form of the bytes (after brotli or not)."""
    kinds = len(forms) > 1
    yield _line("model", "ours", *["bytes"] * kinds, *MOST)
    yield "|---" * (2 + kinds + len(MOST)) + "|"
    yield _line("goal", *[""] * (1 + kinds), *(f"{most:g}" if most < 1 else "below 1" for _, most in MOST.values()))
    for report in found:
        for ours, brotli in itertools.product(OURS, forms):
            mine = groups(report["rows"], ours, compare, brotli=brotli)
            cells = {group.name: group_cell(group) for group in mine}
            if cells:
                form = [FORMS[brotli]] * kinds
                yield _line(name(report), NAMES[ours], *form, *(cells.get(each, "") for each in MOST))


def group_cell(group: Group) -> str:
    ends = [f"{ratio:.2f}" for ratio in (group.ratios[0], group.ratios[-1])] if group.ratios else []
    text = " to ".join(dict.fromkeys(ends))
    if group.out_of_reach:
        text += f"{', ' if text else ''}{group.out_of_reach} beyond"
    return text if group.met else f"**{text}**"


def file_table(found: Sequence[Report]) -> Iterator[str]:
    titles = [f"{equal}, {NAMES[ours]}" for equal in ("accuracy", "error") for ours in OURS[::-1]]
    yield _line("model", "way", "bytes", "gzip", "brotli", "score %", "error dB", *titles)
    yield "|---" * (7 + len(titles)) + "|"
    for report in found:
        rows = report["rows"]
        ratios = [
            {each.way: each.brotli for each in compare(rows, ours)} if has_curve(rows, ours) else {}
            for compare in (at_equal_accuracy, at_equal_error)
            for ours in OURS[::-1]
        ]
        yield from (file_line(row, ratios) for row in rows)


def file_line(row: Row, ratios: Sequence[dict[str, float | None]]) -> str:
    if "failure" in row:
        return _line(row["model"], row["way"], row["failure"].replace("|", "/"), *[""] * (4 + len(ratios)))
    cells = [f"{row[key]:,}" for key in ("bytes", "gzip_bytes", "brotli_bytes")]
    cells += [f"{row['score']:.2f}", "" if row["family"] == "dense" else f"{row['error_db']:.1f}"]
    cells += ["" if (ratio := found.get(row["way"])) is None else f"{ratio:.2f}" for found in ratios]
    return _line(row["model"], row["way"], *cells)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def name(report: Report) -> str:
    model: str = report["rows"][0]["model"]
    return model
