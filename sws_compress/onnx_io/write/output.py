"""A written model put in the place of the old one: one file, or a file and its data beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import onnx

from sws_compress.files import AnyPath, Draft, draft
from sws_compress.onnx_io.external_data import is_external, offset_and_length
from sws_compress.onnx_io.read.on_disk import external_files
from sws_compress.onnx_io.write.external import DataFile, moved_to, write_inline


def data_files(output: AnyPath) -> tuple[Path, Path]:
    """The files beside ``output`` that take its tensors in turns when it is too large for one file."""
    path = Path(output)
    return path.with_name(f"{path.name}.data"), path.with_name(f"{path.name}.2.data")


def write_draft(proto: onnx.ModelProto, data: DataFile, file: Draft, *, inline: bool) -> Mapping[str, int]:
    """Write a model for now, so that it can be checked.

    Parameters
    ----------
    proto : ModelProto
        The model; its large initialisers are in ``data``.
    data : DataFile
        Their bytes.
    file : Draft
        Gets the model.
    inline : bool
        Whether the bytes of ``data`` come into the file.

    Returns
    -------
    mapping of str to int
        Offsets of the external initialisers, in ``file`` or in ``data``.
    """
    if not inline:
        file.write(proto.SerializeToString(deterministic=True))
        file.flush()
        return {tensor.name: offset_and_length(tensor)[0] for tensor in proto.graph.initializer if is_external(tensor)}
    with data.path.open("rb") as stream:
        offsets = write_inline(proto, stream, file)
    file.flush()
    return offsets


def replace_output(proto: onnx.ModelProto, data: DataFile, file: Draft, *, inline: bool) -> None:
    """Replace the target of `write_draft`, whose arguments these are; a reader sees the old model or the new one.

    Data files get a name that the old target does not use: renaming the model decides.
    """
    target = file.target
    names = [path.name for path in data_files(target)]
    used = _names_in_use(target)
    if inline:
        file.publish()
    else:
        free = next((name for name in names if name not in used), names[0])
        moved_to(proto, free)
        with draft(target) as renamed:
            renamed.write(proto.SerializeToString(deterministic=True))
            data.publish(target.with_name(free))
            try:
                renamed.publish()
            except BaseException:
                target.with_name(free).unlink()
                raise
    for name in used.intersection(names):
        with suppress(OSError):
            target.with_name(name).unlink()


def _names_in_use(target: Path) -> set[str]:
    """Files beside the model at ``target`` that it keeps tensors in; none if it is no model."""
    try:
        return {path.name for path in external_files(target)}
    except Exception:  # whatever is there is to be replaced
        return set()
