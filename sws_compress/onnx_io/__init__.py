"""ONNX models read, analysed and written; nothing here runs a model.

The steps, from the ground up: ``format`` (what a compressed file looks like), ``analyse`` (what a graph says about its
weights), ``read`` (bytes of unknown origin to a checked model), ``write`` (graphs rewritten, files written).
``from_torch`` is the other way in: a torch module instead of a file.
"""
