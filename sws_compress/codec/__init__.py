"""Integer sequences to bytes and back, one encoding a file.

Each decoder is written once, over `ArrayOps`: NumPy runs it, the graph room turns it into ONNX nodes.
"""

from sws_compress.codec.choose import candidates
from sws_compress.codec.code import Code, Program
from sws_compress.codec.ops import ArrayOps, NumpyOps, Vector

__all__ = ["ArrayOps", "Code", "NumpyOps", "Program", "Vector", "candidates"]
