"""A page about a file: it holds what the result says, nothing from outside, and no markup from names."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser, save

import sws_compress as sws
from sws_compress.cli import main as cli
from sws_compress.pipelines import save_report as pipeline
from sws_compress.pipelines.job import Limits
from sws_compress.report.html_page import MAX_ROWS, html_page
from sws_compress.report.model_report import MAX_CHARTS
from sws_compress.report.page_drawings import curve_drawing
from sws_compress.report.result import MeasuredSize
from tests.models import Mlp, gaussian, write_mlp

HOSTILE = "<script>alert(1)</script>"
QUOTED = "\"><img src=x onerror='alert(2)'>&amp;\u202e"

FRAME = """<meta name=color-scheme content="light dark"><body><pre id=told></pre><iframe id=page></iframe><script>
const page = document.getElementById("page");
page.style = "width:WIDTHpx;height:900px;border:0";
page.onload = () => {
  const inside = page.contentDocument;
  const sizes = () => [...inside.querySelectorAll("tbody tr")].map((row) => Number(row.cells[7].dataset.value));
  const told = { wide: inside.documentElement.scrollWidth };
  const buttons = inside.querySelectorAll("thead button");
  buttons[7].click();
  told.falling = sizes();
  buttons[7].click();
  told.rising = sizes();
  buttons[0].click();
  told.names = [...inside.querySelectorAll("tbody tr")].map((row) => row.cells[0].dataset.value);
  document.getElementById("told").textContent = JSON.stringify(told);
};
page.src = "PAGE";
</script>"""
"""What opens a page in a frame of some width, sorts its table, and tells what it sees."""


class Tags(HTMLParser):
    """All elements with their attributes, and all text but that of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with names that are markup, its compressed file, and both reports."""
    folder = tmp_path_factory.mktemp("report")
    model = write_mlp(folder / "model.onnx", gaussian(40, 300), names=(HOSTILE, QUOTED))
    request = sws.WeightsOnly(components=8)
    sws.compress(model, folder / "a<b>.onnx", request, report=folder / "page.html")
    sws.compress(model, folder / "small.onnx", request, report=folder / "page.json")
    return folder


def test_names_are_no_markup(folder: Path) -> None:
    page = Tags((folder / "page.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert {name for _, attributes in page.tags for name in attributes if name.startswith("on")} == set()
    assert all(
        (attributes["src"] or "").startswith("data:image/png;base64,") for tag, attributes in page.tags if tag == "img"
    )
    assert HOSTILE in page.text
    assert QUOTED.replace("\u202e", r"\u202e") in page.text
    assert "\u202e" not in page.text
    assert "a<b>.onnx" in page.text


def test_page_asks_nobody_and_runs_its_own_script_alone(folder: Path) -> None:
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"https?:|url\(|@import|<link|src=\"(?!data:)", text) == []
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")


def test_page_says_what_the_result_says(tmp_path: Path) -> None:
    model = write_mlp(tmp_path / "model.onnx")
    result = sws.compress(
        model,
        tmp_path / "small.onnx",
        sws.WeightsOnly(components=2),
        evaluate=lambda path: 0.75,
        report=tmp_path / "p.html",
    )
    text = Tags((tmp_path / "p.html").read_text(encoding="utf-8")).text
    assert f"{result.file_bytes:,} bytes" in text
    assert f"{result.dense_bytes:,} bytes" in text
    assert "0.75 before" in text
    assert result.warnings
    for line in (*result.warnings, *result.notes):
        assert line in text
    for name, value in result.checks:
        assert name in text
        assert value in text
    for row in result.tensors:
        assert f"{row.file_bytes:,.0f}" in text


def test_json_has_the_same(folder: Path) -> None:
    values = json.loads((folder / "page.json").read_text(encoding="utf-8"))
    assert values["file_bytes"] == (folder / "small.onnx").stat().st_size
    assert values["result"]["dense_bytes"] == values["dense_bytes"]
    chart = values["charts"][HOSTILE]
    assert chart["histogram"]["of"] == "weights before"
    assert sum(chart["histogram"]["counts"]) == sum(entry["members"] for entry in chart["codebook"]) == 12_000
    assert len(chart["mixture"]["means"]) == 8
    assert set(values["loading"]) == {"Python", "JavaScript", "C++"}
    assert [row["name"] for row in values["inspection"]["tensors"]] == [HOSTILE, QUOTED]


def test_modules_are_told_by_their_own_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Mlp()
    sws.compress(
        net,
        tmp_path / "small.onnx",
        sws.WeightsOnly(components=8),
        example_inputs=torch.zeros(2, 20),
        file=sws.FileOptions(weight_names=False),
        report=tmp_path / "page.json",
    )
    charts = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))["charts"]
    assert set(charts) >= {"fc1.weight", "fc2.weight"}
    counts = charts["fc1.weight"]["histogram"]
    expected, _ = np.histogram(net.fc1.weight.detach().numpy(), len(counts["counts"]), (counts["low"], counts["high"]))
    assert counts["counts"] == expected.tolist()


def test_weights_before_are_divided_by_the_scales_of_the_file(tmp_path: Path) -> None:
    """The first half of the columns is 100 times as large: without scales the histogram would have another range."""
    weight = gaussian(64, 80) * np.where(np.arange(80) < 40, 100, 1).astype(np.float32)
    model = write_mlp(tmp_path / "model.onnx", weight)
    request = sws.WeightsOnly(components=64, granularity=sws.PerChannel())
    sws.compress(model, tmp_path / "small.onnx", request, report=tmp_path / "page.json")
    values = json.loads((tmp_path / "page.json").read_text(encoding="utf-8"))
    assert "scales" in values["result"]["tensors"][0]["encoding"]
    chart = values["charts"]["w1"]
    assert chart["histogram"]["of"] == "weights before"
    outer = max(abs(entry["value"]) for entry in chart["codebook"])
    assert max(-chart["histogram"]["low"], chart["histogram"]["high"]) < 1.5 * outer


@pytest.mark.parametrize("known", ["file alone", "with the original", "not compressed"])
def test_existing_files(known: str, folder: Path, tmp_path: Path) -> None:
    file = folder / ("model.onnx" if known == "not compressed" else "small.onnx")
    more = ["--original", str(folder / "model.onnx")] if known == "with the original" else []
    assert cli.main(["inspect", str(file), "--report", str(tmp_path / "page.html"), *more]) == 0
    text = Tags((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert ("smaller" in text.split("Where the bytes are")[0]) is (known == "with the original")
    assert ("weights before" in text) is (known == "with the original")
    assert ("decoding at load" in text) is (known != "not compressed")


def test_what_loading_and_running_take_is_measured_beside_the_original(folder: Path) -> None:
    report = pipeline.gathered(folder / "small.onnx", folder / "model.onnx", None)
    assert report.cost is not None
    assert report.cost_before is not None
    for cost in (report.cost, report.cost_before):
        assert 0 < cost.run_seconds < cost.load_seconds < 5
    assert report.cost.load_seconds > report.inspection.parts.decoding.seconds / 10
    text = Tags(html_page(report)).text
    assert "weights in memory" in text
    assert "84.0 kB" in text  # 40 x 300 and 300 x 30 floats
    values = report.to_json()
    assert values["running"]["run_seconds"] == report.cost.run_seconds
    large = pipeline.gathered(folder / "small.onnx", None, None, Limits(model_bytes=100))
    assert large.cost is None


def test_a_model_that_does_not_run_has_a_page(tmp_path: Path) -> None:
    """Its inputs must fit each other, which random ones do not."""
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (int64[m] s, float[40, 60] x) => (float[a, b] y) '
        "{z = MatMul(x, w) y = Reshape(z, s)}"
    )
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.round(gaussian(60, 60), 1), "w"))
    save(model, tmp_path / "model.onnx")
    report = pipeline.gathered(tmp_path / "model.onnx", None, None)
    assert report.cost is None
    assert "a run" not in Tags(html_page(report)).text.split("Where the bytes are")[0]


def test_a_model_without_weights_has_a_page(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[n, 4] x) => (float[n, 4] y) {y = Relu(x)}'
    save(parser.parse_model(text), tmp_path / "none.onnx")
    tags = Tags(html_page(pipeline.gathered(tmp_path / "none.onnx", None, None)))
    assert "table" not in {tag for tag, _ in tags.tags}
    assert "decoding at load" not in tags.text


def test_weights_that_stay_in_integers_are_told(tmp_path: Path) -> None:
    model = write_mlp(tmp_path / "model.onnx")
    sws.compress(model, tmp_path / "s.onnx", file=sws.FileOptions(memory="packed"), report=tmp_path / "page.html")
    rows = sws.inspect(tmp_path / "s.onnx").parts.rows
    text = Tags((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "in memory" in text
    for row in rows:
        assert f"{row.held_bytes:,}" in text
    assert "of it as integers" in text


def test_clusters_and_a_page_are_asked_for_one_by_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(folder / "small.onnx"), "--clusters", "--report", str(folder / "p.html")]) == 2
    assert "--clusters must be left out with --report" in capsys.readouterr().err


def test_large_models_keep_the_page_small(tmp_path: Path) -> None:
    """Each large matrix is noise of many values, which no picture packs."""
    names = [f"layer.{number}.{'long_name.' * 8}weight" for number in range(1100)]
    rng = np.random.default_rng(0)
    shapes = [(100, 192) if number < 40 else (192, 4) for number in range(len(names))]
    weights = [rng.integers(-127, 128, shape).astype(np.float32) for shape in shapes]
    nodes = [helper.make_node("Identity", [name], [f"y{number}"]) for number, name in enumerate(names)]
    outputs = [
        helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, shape) for number, shape in enumerate(shapes)
    ]
    stored = [numpy_helper.from_array(weight, name) for weight, name in zip(weights, names, strict=True)]
    graph = helper.make_graph(nodes, "wide", [], outputs, stored)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "deep.onnx")
    report = pipeline.gathered(tmp_path / "deep.onnx", None, None)
    page = html_page(report)
    assert len(report.charts) == MAX_CHARTS
    assert len(page) < 2_000_000
    assert f"{len(report.inspection.parts.rows) - MAX_ROWS:,} smaller tensors are not shown" in page


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_mlp(tmp_path / "model.onnx")
    for report in ("page.pdf", "page", "missing/page.html"):
        assert (
            cli.main(["compress", str(model), "-o", str(tmp_path / "s.onnx"), "--report", str(tmp_path / report)]) == 2
        )
        line = capsys.readouterr().err
        assert line.startswith("sws-compress: error: report ")
        assert line.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx"}


def test_curve_is_drawn_from_two_sizes_on() -> None:
    sizes = [MeasuredSize(4000, 0.97), MeasuredSize(1000, 0.9), MeasuredSize(2000, 0.95)]
    assert curve_drawing(sizes[:1], 4000, 0.98) is None
    drawn = curve_drawing(sizes, 2000, 0.98)
    assert drawn is not None
    x = [point["x"] for point in drawn["points"]]
    y = [point["y"] for point in drawn["points"]]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)  # factors of two, on a logarithmic axis
    assert y[0] > y[1] > y[2] > drawn["before"]  # down is less
    assert [point["kind"] for point in drawn["points"]] == ["tried", "written", "tried"]
    assert curve_drawing([MeasuredSize(1000, 0.9), MeasuredSize(1000, 0.9)], 1, None) is not None


@pytest.fixture
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs Chromium")
    return found


def seen(chromium: str, page: Path, width: int) -> dict[str, list[float]]:
    """What a browser sees of a page in a frame."""
    frame = page.with_name(f"frame{width}.html")
    frame.write_text(FRAME.replace("WIDTH", str(width)).replace("PAGE", page.as_uri()), encoding="utf-8")
    looks = ("--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", "--window-size=1400,1000")
    does = ("--allow-file-access-from-files", "--dump-dom", "--virtual-time-budget=4000")
    command = [chromium, *looks, *does, frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told: dict[str, list[float]] = json.loads("".join(texts(done.stdout)))
    return told


def texts(dom: str) -> Iterator[str]:
    yield from re.findall(r'<pre id="told">(.*?)</pre>', dom, re.DOTALL)


@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser(width: int, chromium: str, tmp_path: Path) -> None:
    names = ("layers.with.a.name.that.is.rather.long." * 3, "short")
    model = write_mlp(tmp_path / "model.onnx", names=names)
    sws.compress(model, tmp_path / "small.onnx", report=tmp_path / "page.html")
    told = seen(chromium, tmp_path / "page.html", width)
    assert told["wide"] == width  # nothing scrolls but the table and the code in their boxes
    assert told["falling"] == sorted(told["falling"], reverse=True)
    assert told["rising"] == told["falling"][::-1]
    assert told["names"] == sorted(names)
