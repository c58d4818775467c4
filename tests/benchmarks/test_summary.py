"""The page of all benchmarks is made of results alone, and the driver runs what is out of date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as driver
from benchmarks.summary import jobs, page


def test_the_page_is_what_the_results_say() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text()


def test_every_job_has_a_section_and_a_script() -> None:
    assert {job.name for job in jobs.JOBS} == set(page.SECTIONS)
    assert set(jobs.QUICK) <= set(page.SECTIONS)
    for job in jobs.JOBS:
        assert (jobs.ROOT / f"{job.module.replace('.', '/')}.py").exists()


def test_a_result_of_the_present_sources_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    first, second, *_ = jobs.JOBS
    first.result.write_text(json.dumps({"key": jobs.key_of(first)}))
    second.result.write_text(json.dumps({"key": "of other sources"}))
    due = driver.chosen(driver.parse_arguments(["--only", first.name, second.name]))
    assert due == [second]
    assert driver.chosen(driver.parse_arguments(["--only", first.name, "--again"])) == [first]


def test_the_key_follows_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = jobs.JOBS[0]
    script = tmp_path / f"{job.module.replace('.', '/')}.py"
    (tmp_path / "sws_compress").mkdir()
    script.parent.mkdir(parents=True)
    script.write_text("first = 1\n")
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    before = jobs.key_of(job)
    assert jobs.key_of(job) == before
    script.write_text("first = 2\n")
    assert jobs.key_of(job) != before


def test_a_script_that_fails_ends_the_run_and_leaves_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    job = jobs.Job(name="broken", module="benchmarks.no_such_script", output="nothing.json", minutes=0)
    job.result.write_text("{}")
    with pytest.raises(driver.subprocess.CalledProcessError):
        driver.run(job)
    assert job.result.read_text() == "{}"
