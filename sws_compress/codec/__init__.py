"""Sequences of symbols to bytes and back, one encoding a file.

Every decoder is written once, over `ArrayOps`: NumPy runs it, and another interpreter writes it as ONNX nodes.
"""

from sws_compress.codec.candidates import candidates
from sws_compress.codec.interpreter import ArrayOps, NumpyOps, Vector
from sws_compress.codec.program import Code, Program

__all__ = ["ArrayOps", "Code", "NumpyOps", "Program", "Vector", "candidates"]
