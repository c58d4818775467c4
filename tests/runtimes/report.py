"""Measurements for the documentation: one JSON file per runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.runtimes.files import ModelFile
from tests.runtimes.wire import Answer


def write_report(folder: Path, runtime: str, files: Sequence[ModelFile], answers: Sequence[Answer]) -> None:
    """Write the bytes and milliseconds of every file."""
    rows = [
        {
            "file": file.name,
            "encodings": sorted(file.encodings),
            "file_bytes": len(file.data),
            "dense_bytes": len(file.dense),
            "load_ms": round(answer.load_ms, 2),
            "dense_load_ms": round(answer.dense_load_ms, 2),
            "run_ms": round(answer.run_ms, 3),
            "dense_run_ms": round(answer.dense_run_ms, 3),
        }
        for file, answer in zip(files, answers, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{runtime.replace(' ', '-')}.json").write_text(json.dumps({"runtime": runtime, "files": rows}, indent=1))
