"""A folder for a model hub: the file as it is, and a card that says what the result says, whatever names hold."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from markdown_it import MarkdownIt

import sws_compress as sws
from sws_compress.cli import main as cli
from sws_compress.report.model_card import MARK, escaped, fenced
from tests.models import write_mlp

HOSTILE = "a`b\n```\n# <script>alert(1)</script> | [x](y) _z_"


def told(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mlp(tmp_path / "model.onnx")


def test_the_folder_has_the_file_and_what_the_result_says(model: Path, tmp_path: Path) -> None:
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(components=2), evaluate=lambda path: 0.75)
    card = sws.save_card(
        tmp_path / "small.onnx", tmp_path / "a" / "hub", result=result, command="sws-compress compress x"
    )
    assert card == tmp_path / "a" / "hub" / "README.md"
    assert (card.parent / "small.onnx").read_bytes() == (tmp_path / "small.onnx").read_bytes()
    text = re.sub(r"\\(.)", r"\1", card.read_text(encoding="utf-8"))
    assert f"{result.file_bytes:,}" in text
    assert f"{result.dense_bytes:,}" in text
    assert "| metric after | 0.75 |" in text
    assert "sws-compress compress x" in text
    assert result.warnings
    for line in (*result.warnings, *result.notes):
        assert line in text


def test_the_head_is_what_hubs_read(model: Path, tmp_path: Path) -> None:
    text = sws.save_card(model, tmp_path / "hub").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    values = yaml.safe_load(head)
    assert values["library_name"] == "onnx"
    assert "sws-compress" in values["tags"]
    assert body.startswith(f"\n{MARK}")


def test_code_of_the_card_runs(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = sws.save_card(model, tmp_path / "hub")
    monkeypatch.chdir(card.parent)
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"x": np.zeros((2, 40), np.float32)}
    exec(code, names)
    assert names["outputs"][0].shape == (2, 30)


def test_names_are_no_markup(tmp_path: Path) -> None:
    text = f"# {escaped(HOSTILE)}\n\n{fenced(HOSTILE, 'sh')}\nafter\n"
    html = MarkdownIt().render(text)
    assert "<script>" not in html
    assert re.findall(r"<(\w+)", html) == ["h1", "pre", "code", "p"]
    assert "|" in html
    model = write_mlp(tmp_path / "a_b#<i>.onnx", names=("w1`", "<script>"))
    proto = onnx.load(model)
    proto.graph.node[0].input[0] = proto.graph.input[0].name = "x```"
    onnx.save(proto, model)
    result = sws.compress(model, tmp_path / "s_m<i>.onnx", sws.WeightsOnly(components=2))
    card = sws.save_card(result.output, tmp_path / "hub", result=result).read_text(encoding="utf-8")
    html = MarkdownIt().enable("table").render(card.split("---\n", 2)[2])
    assert "<i>" not in html
    assert "<h1>s_m&lt;i&gt;</h1>" in html
    assert html.count("<pre>") == 3


def test_names_that_are_no_text_are_escaped(model: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"net\xff.onnx")
    path.write_bytes(model.read_bytes())
    card = sws.save_card(path, tmp_path / "hub", command=f"sws-compress compress {path.name}")
    assert "compress net\\udcff.onnx" in card.read_text(encoding="utf-8")
    sws.save_report(path, tmp_path / "page.html")
    assert "net\\udcff.onnx" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_external_data_comes_along(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "external.onnx"
    onnx.save(onnx.load(model), path, save_as_external_data=True, location="external.data", size_threshold=0)
    card = sws.save_card(path, tmp_path / "hub")
    assert {file.name for file in card.parent.iterdir()} == {"README.md", "external.onnx", "external.data"}
    size = path.stat().st_size + (tmp_path / "external.data").stat().st_size
    assert f"An ordinary ONNX file of {size:,} bytes." in card.read_text(encoding="utf-8")
    assert sws.verify(model, card.parent / "external.onnx", tolerance=0).passed


def test_command_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub = tmp_path / "hub"
    for _ in range(2):  # a card of ours is replaced
        assert (
            told(
                "compress", model, "-o", hub / "small.onnx" if hub.exists() else tmp_path / "small.onnx", "--card", hub
            )
            == 0
        )
    text = (hub / "README.md").read_text(encoding="utf-8")
    assert "sws-compress compress model.onnx -o small.onnx --card hub" in text
    assert str(tmp_path) not in text
    assert {file.name for file in hub.iterdir()} == {"README.md", "small.onnx"}


def test_what_others_wrote_stays(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "README.md").write_text("mine")
    assert told("compress", model, "-o", tmp_path / "small.onnx", "--card", hub) == 2
    assert "must be one that sws-compress wrote, got another" in capsys.readouterr().err
    assert not (tmp_path / "small.onnx").exists()
    assert (hub / "README.md").read_text() == "mine"
    assert told("compress", model, "-o", tmp_path / "small.onnx", "--card", model) == 2
    assert capsys.readouterr().err.count("\n") == 1
