"""Everything that runs ONNX Runtime.

What goes wrong with a file that this package wrote is a VerificationError. What goes wrong with a model or inputs of
the caller is a ModelError or DataError (``user_models``, ``sample_inputs``, ``conversion``).
"""
