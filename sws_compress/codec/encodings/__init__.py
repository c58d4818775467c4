"""All encodings, one file each: how symbols become bytes, the program that decodes them, and how it is recognised.

A new encoding is a file beside these, and one entry in `ENCODINGS`.
"""

from __future__ import annotations

from collections.abc import Iterable

from sws_compress.codec.encodings.buckets import BucketsEncoding
from sws_compress.codec.encodings.classes import ClassesEncoding
from sws_compress.codec.encodings.constant import ConstantEncoding
from sws_compress.codec.encodings.huffman import HuffmanEncoding
from sws_compress.codec.encodings.progressions import ProgressionsEncoding
from sws_compress.codec.encodings.radix import RadixEncoding
from sws_compress.codec.encodings.rows import RowsEncoding
from sws_compress.codec.encodings.sparse import SparseEncoding, SparseValuesEncoding
from sws_compress.codec.encodings.strides import StridesEncoding
from sws_compress.codec.encodings.tunstall import TunstallEncoding
from sws_compress.codec.program import Encoding, Operators

_FOR_ANY_VALUES: tuple[Encoding, ...] = (RadixEncoding(), HuffmanEncoding(), StridesEncoding())

ENCODINGS: tuple[Encoding, ...] = (
    ConstantEncoding(),
    ProgressionsEncoding(),
    *_FOR_ANY_VALUES,
    BucketsEncoding(),
    TunstallEncoding(),
    SparseEncoding(),
    ClassesEncoding(),
    SparseValuesEncoding(_FOR_ANY_VALUES),
    RowsEncoding(),
)

UNKNOWN = "unknown"
"""Name for a decoder that no encoding recognises, as in a file that another tool has rewritten."""


def recognise(operators: Iterable[str]) -> str:
    """Name of the encoding whose decoder is made of these operators.

    Parameters
    ----------
    operators : iterable of str
        ONNX operator of every node that leads to a decoded tensor, those of called functions included.

    Returns
    -------
    str
        As `Code.encoding`; `UNKNOWN` if there is none.
    """
    counted = Operators(operators)
    return next((name for encoding in ENCODINGS if (name := encoding.recognise(counted))), UNKNOWN)
