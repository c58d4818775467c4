"""Shells complete commands and options by the script that the program prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sws_compress.cli import main as cli
from sws_compress.cli.main import SHELLS

ANSWER = """source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
$(complete -p sws-compress | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        cli.main(["--print-completion", shell])
    assert left.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "completion.bash"
    path.write_text(printed("bash", capsys))
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sws-compress com", {"compress"}),
        ("sws-compress compress --targ", {"--target-bytes"}),
        ("sws-compress compress --low-bit ''", {"4", "8"}),
        ("sws-compress inspect --clu", {"--clusters"}),
        ("sws-compress check --max-", {"--max-bytes", "--max-drop"}),
    ],
)
def test_bash_completes(words: str, expected: set[str], script: Path) -> None:
    program = ANSWER.format(script=script, words=words)
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_paths_complete_to_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    program = ANSWER.format(script=script, words="sws-compress inspect ne")
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["net.onnx"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_sound(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(shell, capsys)
    assert "compress" in text
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (tmp_path / "script").write_text(text)
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_other_shells_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--print-completion", "cmd"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
