"""What every encoding hands on: arrays to store, and the program that turns them back into codebook rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import flat_bits
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import BYTES_PER_INTEGER, BYTES_PER_WEIGHT, NANOSECONDS_PER_WEIGHT, LoadCost
from sws_compress.codec.transforms.dead_slices import Masks
from sws_compress.codec.transforms.scales import Scales, scaled_name

LONG_SEQUENCE_SYMBOLS = 1 << 16
"""Length from which decoders of more nodes are worth their bytes, because they load in less time and memory."""


class Program(Protocol):
    """A decoder. It is hashable: tensors with equal programs share one function in the file."""

    @property
    def encoding(self) -> str:
        """Name of the encoding, for people."""

    @property
    def shareable(self) -> bool:
        """Whether the whole program may become one function.

        False if the program holds sizes of one tensor, which a shared function cannot hold.
        """

    @property
    def bit_stream(self) -> int | None:
        """Index of the array that the program reads as bits, int64 (8 b,), instead of as bytes (b, 1); None if none."""

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        """Estimated cost of decoding at load, beyond what every code needs to write its weights.

        Parameters
        ----------
        arrays : sequence of ndarray
            The arrays of the code that belong to this program. A program that wraps another one passes on only those
            of the inner program.
        """

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        """Decode.

        Parameters
        ----------
        ops : ArrayOps
            Runs the program or writes it down.
        count : int64 (1,)
            Number n of symbols.
        codebook : float32 (k,) or (k, d)
            One row for each symbol.
        *arrays
            What the encoding stored.

        Returns
        -------
        float32 (n,) or (n, d)
            The row of every symbol.
        """


@dataclass(frozen=True)
class Wrapped:
    """Base of programs that do more before or after another program; the arrays are those of the other one.

    Parameters
    ----------
    program : Program
        The inner program.
    """

    program: Program

    @property
    def encoding(self) -> str:
        return self.program.encoding

    @property
    def shareable(self) -> bool:
        return self.program.shareable

    @property
    def bit_stream(self) -> int | None:
        return self.program.bit_stream

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        return self.program.load_cost(arrays)


@dataclass(frozen=True, eq=False)
class Code:
    """One sequence of symbols, encoded.

    Parameters
    ----------
    program : Program
        What decodes it.
    count : int
        Number n of symbols.
    codebook : ndarray (k,) or (k, d), float32, float16 if that is exact, or numbers of a step
        Rows in the order that the program wants.
    arrays : tuple of ndarray
        What else the program reads.
    payload : tuple of int
        Indices of the arrays that carry the symbols, uint8, uint16 or int32; the others are tables and sizes.
    masks : tuple of (Masks or None)
        Live slices of the tensors that the symbols make up, end to end; () if no tensor has masks.
    scales : Scales or None
        Factors of the tensor; only a tensor that is alone in its stream has some.
    narrow : dtype or None
        Type that the tensors are cast to once they have their shapes; runtimes do little else with some types.
    """

    program: Program
    count: int
    codebook: Array
    arrays: tuple[Array, ...]
    payload: tuple[int, ...]
    masks: tuple[Masks | None, ...] = ()
    scales: Scales | None = None
    narrow: np.dtype[Any] | None = None

    @property
    def encoding(self) -> str:
        """Name of the encoding, for people."""
        return self.program.encoding

    @property
    def label(self) -> str:
        """Name of the encoding, and whether its values are scaled: what an inspection of the file shows."""
        return self.encoding if self.scales is None else scaled_name(self.encoding)

    @property
    def payload_bytes(self) -> int:
        """Bytes that carry the symbols, masks included."""
        live = {one.tobytes() for mask in self.masks if mask for _, one in mask.live}
        return -(-sum(map(len, live)) // 8) + sum(self.arrays[index].nbytes for index in self.payload)

    @property
    def table_bytes(self) -> int:
        """Bytes of the codebook, of scales, and of other tables of values: words of blocks, values of other types."""
        tables = (array for index, array in enumerate(self.arrays) if index not in self.payload)
        scales = 0 if self.scales is None else self.scales.factors.nbytes
        return self.codebook.nbytes + scales + sum(table.nbytes for table in tables if table.dtype.kind not in "i")

    @property
    def load_cost(self) -> LoadCost:
        """Estimated cost of decoding at load, the weights themselves included."""
        weights = self.count * (self.codebook[0].size if self.codebook.ndim > 1 else 1)
        each = BYTES_PER_INTEGER if self.codebook.dtype.itemsize == 1 else BYTES_PER_WEIGHT
        written = LoadCost(1e-9 * NANOSECONDS_PER_WEIGHT * weights, each * weights)
        if self.scales is not None:
            written += self.scales.load_cost(weights)
        return written + self.program.load_cost(self.arrays)

    def decode(self, ops: ArrayOps[A]) -> A:
        """Codebook row of every symbol, shape (n,) or (n, d)."""
        count = ops.constant(np.array([self.count], np.int64))
        arrays = [ops.constant(array) for array in self.arrays]
        if (stream := self.program.bit_stream) is not None:
            arrays[stream] = flat_bits(ops, arrays[stream])
        return self.program(ops, count, ops.constant(self.codebook), *arrays)


@dataclass(frozen=True, eq=False)
class SymbolSequence:
    """Symbols to encode, with what encodings need to know of them.

    Parameters
    ----------
    symbols : ndarray (n,), uint8, or uint16 if k > 256
        At least one. Every codebook row occurs.
    codebook : ndarray (k,) or (k, d), float32
        Value of each symbol.
    cuts : tuple of int
        Positions at which another tensor begins, where statistics may change.
    limit : LoadCost or None
        What decoding may cost; None if there is no limit.
    given : tuple of (ndarray (n,), ndarray (g,) or (g, d)), optional
        The same symbols and their codebook with the rows that do not occur, for encodings that compute symbols.
    """

    symbols: npt.NDArray[np.unsignedinteger]
    codebook: Array
    cuts: tuple[int, ...] = ()
    limit: LoadCost | None = None
    given: tuple[npt.NDArray[np.unsignedinteger], Array] | None = None

    @property
    def is_constant(self) -> bool:
        return len(self.codebook) == 1

    @property
    def is_scalar(self) -> bool:
        return self.codebook.ndim == 1

    @property
    def is_long(self) -> bool:
        return self.symbols.size >= LONG_SEQUENCE_SYMBOLS


Operators = Counter[str]
"""How often each ONNX operator occurs among the nodes and functions that decode one tensor."""


class Encoding(Protocol):
    """One way to code symbols, from both sides: which codes it makes, and how a file shows it."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterable[Code]:
        """Codes of a sequence; none if the encoding does not apply or cannot pay.

        Parameters
        ----------
        sequence : SymbolSequence
            What to encode.
        earlier : sequence of Code
            What the encodings before this one in the list made, for encodings that only help if those cost too much.
        """

    def recognise(self, operators: Operators) -> str | None:
        """Name of the encoding if a decoder made of ``operators`` is one of its own, else None.

        Parameters
        ----------
        operators : Counter of str
            Operators of the decoder. Beside those of the program there may be what unpacks its tensors: ``Cast``,
            ``Reshape``, ``Split``, ``Gather``, ``Mul``, ``CumSum``, ``Div``, ``Mod``, and calls of functions.
        """


def every_code(encodings: Iterable[Encoding], sequence: SymbolSequence) -> list[Code]:
    """Codes of a sequence in all ``encodings``, in their order: of codes that are equally good, the first one wins."""
    found: list[Code] = []
    for encoding in encodings:
        found.extend(encoding.codes(sequence, tuple(found)))
    return found


def made(*codes: Code | None) -> Iterator[Code]:
    """The codes that an encoder made; None says that it gave up."""
    return (code for code in codes if code is not None)
