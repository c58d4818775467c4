"""How a program loads a model file, in a few lines of three languages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

C_TYPES = {"float": "float", "double": "double", "int64": "int64_t", "int32": "int32_t", "bool": "bool"}
"""Types of C++ by the names that ONNX has for them; others are named as in ONNX."""


@dataclass(frozen=True)
class ModelInput:
    """An input of a model.

    Parameters
    ----------
    name : str
        Its name.
    element_type : str
        Type of its elements as ONNX names it, in small letters: "float", "int64".
    shape : tuple of int or str
        Its dimensions; text where they are free.
    """

    name: str
    element_type: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        """Type and shape: ``float[n, 784]``."""
        return f"{self.element_type}[{', '.join(map(str, self.shape))}]"


def loading_code(file_name: str, inputs: Sequence[ModelInput], outputs: Sequence[str]) -> dict[str, str]:
    """Code that loads a model and runs it once, by language.

    Parameters
    ----------
    file_name : str
        Name of the file, without its folder.
    inputs : sequence of ModelInput
        The inputs of the model.
    outputs : sequence of str
        Names of its outputs.

    Examples
    --------
    >>> print(loading_code("small.onnx", [ModelInput("x", "float", ("n", 784))], ["y"])["Python"])
    import onnxruntime
    <BLANKLINE>
    session = onnxruntime.InferenceSession("small.onnx")
    outputs = session.run(None, {"x": x})  # x: float[n, 784]
    """
    variables = [f"input_{number}" for number in range(len(inputs))] if len(inputs) > 1 else ["x"] * len(inputs)
    given = list(zip(inputs, variables, strict=True))
    feeds = ", ".join(f"{_text(entry.name)}: {variable}" for entry, variable in given)
    kinds = ", ".join(f"{variable}: {_comment(entry)}" for entry, variable in given)
    return {
        "Python": (
            f"import onnxruntime\n\nsession = onnxruntime.InferenceSession({_text(file_name)})\n"
            f"outputs = session.run(None, {{{feeds}}}){f'  # {kinds}' if kinds else ''}"
        ),
        "JavaScript": _javascript(file_name, given, feeds),
        "C++": _cpp(file_name, given, outputs),
    }


def _javascript(file_name: str, given: Sequence[tuple[ModelInput, str]], feeds: str) -> str:
    tensors = "".join(
        f"const {variable} = new ort.Tensor({_text(_javascript_type(entry))}, data, [{_dimensions(entry)}]);\n"
        for entry, variable in given
    )
    return (
        'import * as ort from "onnxruntime-web";\n\n'
        f"const session = await ort.InferenceSession.create({_text(file_name)});\n"
        f"{tensors}const outputs = await session.run({{{feeds}}});"
    )


def _cpp(file_name: str, given: Sequence[tuple[ModelInput, str]], outputs: Sequence[str]) -> str:
    tensors = ""
    for entry, variable in given:
        kind = C_TYPES.get(entry.element_type, entry.element_type)
        count = f"{variable}_data.size(), {variable}_shape.data(), {variable}_shape.size()"
        tensors += f"Ort::Value {variable} = Ort::Value::CreateTensor<{kind}>(memory, {variable}_data.data(), {count});"
        tensors += f"  // {_comment(entry)}\n"
    names = ", ".join(_text(entry.name) for entry, _ in given)
    values = ", ".join(f"std::move({variable})" for _, variable in given)
    feed = f"&{given[0][1]}" if len(given) == 1 else "inputs"
    several = "" if len(given) <= 1 else f"Ort::Value inputs[] = {{{values}}};\n"
    return (
        "Ort::Env env;\n"
        f"Ort::Session session(env, ORT_TSTR({_text(file_name)}), Ort::SessionOptions{{}});\n"
        "auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);\n"
        f"{tensors}{several}"
        f"const char *names[] = {{{names}}}, *wanted[] = {{{', '.join(map(_text, outputs))}}};\n"
        f"auto outputs = session.Run(Ort::RunOptions{{}}, names, {feed}, {len(given)}, wanted, {len(outputs)});"
    )


def _text(text: str) -> str:
    """A string literal of all three languages: whatever cannot be seen is escaped."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in json.dumps(text, ensure_ascii=False))


def _comment(entry: ModelInput) -> str:
    """Type and shape as a comment: what is not printable would end it."""
    return _text(str(entry))[1:-1].replace('\\"', '"')


def _javascript_type(entry: ModelInput) -> str:
    return {"float": "float32", "double": "float64"}.get(entry.element_type, entry.element_type)


def _dimensions(entry: ModelInput) -> str:
    return ", ".join(str(size if isinstance(size, int) else 1) for size in entry.shape)
