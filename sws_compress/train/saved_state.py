"""Files of saved states: a checksum over their bytes, and checks of what they hold before any of it is loaded."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import IO, Any, Protocol, cast

import torch

from sws_compress.errors import ArgumentError, SwsError
from sws_compress.files import draft

DIGEST_BYTES = 32
"""Bytes of SHA-256, which follows the payload in a file."""

ELEMENTWISE = {
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"),
    *("sum", "ax", "prev", "step_size"),
}
"""Entries of an optimiser's state with one number per weight. Fused kernels take their shape for granted."""

SINGLE = {"step", "eta", "mu", "mu_product"}
"""Entries of an optimiser's state that are one number."""

GREATEST_SETTING = 1e15
"""Magnitude of an optimiser's settings that is taken for damage beyond."""


class DamagedError(Exception):
    """The checksum of a file is not that of its bytes."""


class _Writable(Protocol):
    def write(self, data: Any, /) -> Any:
        """Write all of ``data``."""


class _Hashed:
    """A file that keeps the SHA-256 of what is written to it."""

    def __init__(self, file: _Writable) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: the file below is flushed by its owner."""


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state and the SHA-256 of its bytes; the file at ``path`` is replaced only when the new one is complete.

    Parameters
    ----------
    path : Path
        The file. ``torch.load`` reads it, too.
    state : dict
        Tensors, numbers, strings, lists and dicts.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with draft(path) as file:
        _write(file, state)
        file.publish()


def packed_state(state: dict[str, Any]) -> bytes:
    """The bytes that `write_state` would write."""
    buffer = io.BytesIO()
    _write(buffer, state)
    return buffer.getvalue()


def _write(file: _Writable, state: dict[str, Any]) -> None:
    hashed = _Hashed(file)
    torch.save(state, cast(IO[bytes], hashed))  # of which it only needs to write
    file.write(hashed.digest.digest())


def read_state(path: str | os.PathLike[str], *, mapped: bool = False) -> dict[str, Any]:
    """Read what `write_state` wrote, into CPU memory.

    Parameters
    ----------
    path : str or path
        The file.
    mapped : bool, default False
        Whether to map its tensors, so that only those that are used take memory.

    Raises
    ------
    DamagedError
        If the bytes are not those that were written.
    ArgumentError
        If it is no ordinary file.
    """
    digest = hashlib.sha256()
    if Path(path).exists() and not Path(path).is_file():
        raise ArgumentError("it must be an ordinary file, got a directory, device or pipe: choose another path")
    with Path(path).open("rb") as file:
        left = os.fstat(file.fileno()).st_size - DIGEST_BYTES
        while left > 0 and (chunk := file.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        intact = left == 0 and file.read() == digest.digest()
    if not intact:
        raise DamagedError
    # To the CPU first: parts of the state belong there, the others are moved to their parameters.
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    return state


@contextmanager
def refusing_others(path: str | os.PathLike[str], thing: str) -> Iterator[None]:
    """Raise ArgumentError with the file's name for every error of reading it; ``thing`` is what it must be."""
    try:
        yield
    except SwsError as error:
        raise ArgumentError(f"{path} cannot be resumed: {error}") from error
    except Exception as error:  # torch.load raises many kinds for a file that is not its own
        found = "damaged or other bytes" if isinstance(error, DamagedError) else type(error).__name__
        raise ArgumentError(f"{path} must be {thing}, got {found}: delete it to start anew") from error


def check_tensor(thing: str, value: Any, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise ArgumentError unless ``value`` is a dense tensor of that shape and dtype, without shared elements."""
    wanted = f"{_plain(dtype)} of shape {tuple(shape)}"
    if not isinstance(value, torch.Tensor):
        raise _other(thing, wanted, type(value).__name__)
    if value.shape != torch.Size(shape) or value.dtype != dtype:
        raise _other(thing, wanted, f"{_plain(value.dtype)} of shape {tuple(value.shape)}")
    if value.layout is not torch.strided or value.is_meta or value.is_quantized or not _is_dense(value):
        raise _other(thing, wanted, "one with shared or missing elements")


def check_state_dict(thing: str, saved: Any, own: Mapping[str, Any]) -> None:
    """Raise ArgumentError unless ``saved`` has the names, shapes and dtypes of a module's own ``state_dict``."""
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        raise _other(f"names of the {thing}", "those", "others")
    for name, value in own.items():
        if isinstance(value, torch.Tensor):
            check_tensor(f"{thing} {name!r}", saved[name], value.shape, value.dtype)


def check_optimizer(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise ArgumentError unless ``saved`` is a state of such an optimiser, with moments of its parameters' shapes.

    Parameters
    ----------
    saved : dict
        What ``optimizer.state_dict`` returned, of whole tensors.
    optimizer : torch.optim.Optimizer
        The optimiser that shall go on from it. It may have taken no step yet.
    """
    own = optimizer.state_dict()
    groups, own_groups = saved["param_groups"], own["param_groups"]
    if [group["params"] for group in groups] != [group["params"] for group in own_groups]:
        raise _other("parameters of the optimiser", "those", "others")
    for group, own_group in zip(groups, own_groups, strict=True):
        for name in group.keys() & own_group.keys():
            if _kind(group[name]) != _kind(own_group[name]):
                raise _other(f"optimiser setting {name}", _kind(own_group[name]), _kind(group[name]))
            if name == "amsgrad" and bool(group[name]) != bool(own_group[name]):  # the moments would lack one
                raise _other("optimiser setting amsgrad", f"{own_group[name]}", f"{group[name]}")
            for value in group[name] if isinstance(group[name], tuple | list) else (group[name],):
                if isinstance(value, Real) and not abs(float(value)) <= GREATEST_SETTING:
                    raise _other(f"optimiser setting {name}", f"within {GREATEST_SETTING:g}", f"{value}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    by_index = dict(zip((i for group in own_groups for i in group["params"]), parameters, strict=True))
    adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    for i, entries in saved["state"].items():
        if i not in by_index:
            raise _other("parameters of the optimiser", "those", "others")
        if adam and entries and not {"step", "exp_avg", "exp_avg_sq"} <= entries.keys():
            raise _other(f"optimiser state of parameter {i}", "step, exp_avg and exp_avg_sq", "less")
        for name, value in entries.items():
            _check_entry(f"optimiser state {name} of parameter {i}", name, value, by_index[i])


def _check_entry(thing: str, name: str, value: Any, parameter: torch.Tensor) -> None:
    if name in SINGLE:
        if isinstance(value, torch.Tensor):
            check_tensor(thing, value, value.shape if value.numel() == 1 else (), value.dtype)
            if not (value.is_floating_point() or value.dtype is torch.int64):
                raise _other(thing, "a number", _plain(value.dtype))
        elif not isinstance(value, Real):
            raise _other(thing, "a number", type(value).__name__)
        if name == "step" and not 0 <= float(value) < math.inf:
            raise _other(thing, ">= 0", f"{float(value)}")
    elif name in ELEMENTWISE and (value is not None or name != "momentum_buffer"):  # None before its first step
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        check_tensor(thing, value, parameter.shape, value.dtype if floating else parameter.dtype)


def check_number(thing: str, value: Any, *, whole: bool = False, least: float | None = None) -> None:
    """Raise ArgumentError unless ``value`` is a number of Python, and at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int if whole else Real):
        raise _other(thing, "a whole number" if whole else "a number", type(value).__name__)
    if least is not None and not float(value) >= least:
        raise _other(thing, f">= {least:g}", f"{value}")


def _kind(value: Any) -> str:
    """What kind of setting a value is; None and flags are one kind, and so are all numbers."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool):
        return "a flag"
    if isinstance(value, Real):
        return "a number"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_kind, value))})"
    return type(value).__name__


def _is_dense(value: torch.Tensor) -> bool:
    """Whether the elements lie side by side in memory, in any order of the axes."""
    expected = 1
    for stride, length in sorted(zip(value.stride(), value.shape, strict=True)):
        if length > 1:
            if stride != expected:
                return False
            expected *= length
    return True


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _other(thing: str, wanted: str, found: str) -> ArgumentError:
    return ArgumentError(f"saved {thing} must be {wanted} as in the run, got {found}: delete the file to start anew")
