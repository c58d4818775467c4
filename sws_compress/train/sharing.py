"""How far one mixture reaches."""

from __future__ import annotations

import enum


class Sharing(enum.Enum):
    """How far one mixture, and so one codebook, reaches.

    Attributes
    ----------
    TENSOR
        Every compressed tensor has a mixture of its own.
    MODULE
        All compressed tensors of a module (the weight and the bias of a layer) share one.
    MODEL
        All compressed tensors of the network share one.

    Examples
    --------
    >>> Sharing("module")
    <Sharing.MODULE: 'module'>
    """

    TENSOR = "tensor"
    MODULE = "module"
    MODEL = "model"
