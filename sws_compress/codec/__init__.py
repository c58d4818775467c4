"""Integer sequences to bytes and back, one encoding a file.

Each decoder is written once, over `ArrayOps`: NumPy runs it, the graph room turns it into ONNX nodes.
"""

from sws_compress.codec.candidates import candidates
from sws_compress.codec.interpreter import ArrayOps, NumpyOps, Vector
from sws_compress.codec.program import Code, Program

__all__ = ["ArrayOps", "Code", "NumpyOps", "Program", "Vector", "candidates"]
