"""Code arrays with NNCodec and decode them again, in the environment of `requirements-nncodec.txt`.

    python -m benchmarks.models.opponents.nncodec_worker QP ARRAYS.npz DECODED.npz STREAM

NNCodec imports torchvision, whose usual build does not match that of the CPU torch. Nothing here uses it, so it is
replaced by an empty stand-in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import MagicMock

TORCHVISION = (
    "", ".datasets", ".transforms", ".models", ".datasets.folder", ".datasets.utils", ".transforms.functional",
    ".datasets.vision", ".io", ".utils",
)  # fmt: skip


def main() -> None:
    for name in TORCHVISION:
        sys.modules[f"torchvision{name}"] = MagicMock()
    import numpy as np
    from nncodec.nn import decode, encode

    qp, arrays, decoded, stream = int(sys.argv[1]), *map(Path, sys.argv[2:5])
    with np.load(arrays, allow_pickle=False) as loaded:
        values = {f"weight{name}": loaded[name] for name in loaded.files}
    coded = encode(dict(values), {"qp": qp, "use_dq": True, "verbose": False})
    found = decode(coded)
    arrays_found = {name.removeprefix("weight"): np.asarray(found[name], np.float32) for name in values}
    np.savez(decoded, **arrays_found)  # type: ignore[arg-type]
    stream.write_bytes(coded)


if __name__ == "__main__":
    main()
