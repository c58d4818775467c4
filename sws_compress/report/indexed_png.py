"""Pictures of at most 256 colours as PNG, without a package for pictures."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH, _INDEXED_COLOUR = 8, 3


def indexed_png(indices: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint8]) -> bytes:
    """Encode a picture whose pixels are indices into a table of colours (PNG specification, colour type 3).

    Parameters
    ----------
    indices : ndarray, shape (rows, columns), uint8
        The pixels; no axis is empty.
    colours : ndarray, shape (k, 3), uint8
        RGB, at most 256.

    Returns
    -------
    bytes
        The file.
    """
    rows, columns = indices.shape
    head = struct.pack(">IIBBBBB", columns, rows, _BIT_DEPTH, _INDEXED_COLOUR, 0, 0, 0)
    lines = np.pad(indices, ((0, 0), (1, 0)))  # the filter of each line: none
    pixels = zlib.compress(lines.tobytes(), 9)
    parts = (_part(b"IHDR", head), _part(b"PLTE", colours.tobytes()), _part(b"IDAT", pixels), _part(b"IEND", b""))
    return _SIGNATURE + b"".join(parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
