"""What a caller can ask for: one request per mode, and the goal beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from sws_compress.arguments import own_numbers
from sws_compress.errors import ArgumentError
from sws_compress.onnx_io.format.blocked_weight import BLOCK_SIZES
from sws_compress.quantize.affine_palette import INDEX_BITS
from sws_compress.quantize.granularity import Granularity, PerTensor, check_granularity
from sws_compress.quantize.palette import check_components
from sws_compress.train.request import FineTuned

DEFAULT_WEIGHT_QUALITY = 20.0
"""Decibels of `WeightsOnly` where neither a quality nor components are given. There the outputs of eleven real networks
keep 26 to 47 dB on inputs of their own: 25 is the default with calibration inputs."""


@dataclass(frozen=True, kw_only=True)
class WeightsOnly:
    """Round the weights as they are, without data: few distinct values per tensor, packed as indices.

    Takes ONNX files and torch modules. Give a quality, the default, or a number of components.

    Parameters
    ----------
    quality : float, optional
        Energy of the network's outputs over that of their error, in decibels, as the weights tell it: if all layers
        handed on all of their error; > 0. 6 more halve the error and cost about one bit per weight. Where example or
        random inputs show a larger error, all weights are kept closer. `DEFAULT_WEIGHT_QUALITY` if there are no
        components.
    components : int, optional
        Instead, distinct values per tensor, 2 to 256, whatever error that makes. Fewer make a smaller file, more keep
        the weights closer.
    granularity : PerTensor, PerChannel, Vectors or Best, optional
        Which weights share one of these values or a scale: all of a tensor (the default), the channels of a tensor with
        a scale each, or vectors of consecutive weights. `Best` chooses for each tensor.

    Raises
    ------
    ArgumentError
        If ``quality`` or ``components`` is out of range, if both are given, or if ``granularity`` is none of these or
        comes without components.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.WeightsOnly(quality=35).components is None
    True
    >>> sws.WeightsOnly(components=64, granularity=sws.PerChannel())
    WeightsOnly(quality=None, components=64, granularity=PerChannel())
    """

    takes: ClassVar[frozenset[str]] = frozenset(
        (
            *("evaluate", "keep", "overrides", "load_budget", "weight_names", "packed_embeddings"),
            *("memory", "standard_operators_only", "prune_units"),
        )
    )

    quality: float | None = None
    components: int | None = None
    granularity: Granularity | None = None

    def __post_init__(self) -> None:
        own_numbers(self)
        if self.granularity is not None:
            check_granularity(self.granularity)
        if self.components is not None:
            check_components(self.components)
            if self.quality is not None:
                raise ArgumentError(
                    f"quality must be left out with components, got {self.quality}: either decides the error"
                )
            object.__setattr__(self, "granularity", self.granularity or PerTensor())
            return
        if self.granularity is not None:
            raise ArgumentError(
                f"granularity must come with components, got {self.granularity} alone: "
                "say how many values there are, for example components=64"
            )
        if self.quality is None:
            object.__setattr__(self, "quality", DEFAULT_WEIGHT_QUALITY)
        _check_quality(self.quality)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Assign the weights by what their errors do to the outputs, seen on a few inputs without labels.

    The inputs of every layer are collected. Each weight is assigned to an even grid at a price per bit, the same for
    all layers, and the weights after it make up for its error. Takes ONNX files and torch modules.

    Parameters
    ----------
    inputs
        Some hundred inputs, which no test uses: arrays by input name with many rows, or one array; the path of an .npz
        file of them, or of a folder of such files; or an iterable of arrays by name or of arguments, such as a
        DataLoader.
    quality : float
        Where no other goal is given: energy of the outputs over that of their error on these inputs, in decibels; > 0.
        At 25, the outputs change by 6 % of their norm; 6 more halve that.
    distillation : bool
        Whether codebooks, scales, biases and norms are then trained in torch for up to 150 steps to bring the outputs
        closer to those of the float network, on the same inputs. It is kept where inputs that were held out are better
        off, takes no bytes, and some minutes at most. A note tells where an ONNX file cannot be trained: for want of
        torch, or for an operator that is not covered. Files that are streamed are not distilled.
    resumable : bool
        ONNX files: whether a run that was killed goes on where it was, if it is started again. Finished work lies in
        ``OUT.sws-work`` until the end. Files with more than 512 MiB of weights are always handled so.

    Raises
    ------
    ArgumentError
        If ``quality`` is out of range.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.Calibrated(inputs="inputs.npz", quality=30)
    Calibrated(inputs='inputs.npz', quality=30, distillation=True, resumable=False)
    """

    takes: ClassVar[frozenset[str]] = frozenset(
        (
            *("ratio", "target_bytes", "max_drop", "evaluate", "keep", "overrides"),
            *("load_budget", "weight_names", "packed_embeddings"),
            *("memory", "standard_operators_only", "prune_units"),
        )
    )

    inputs: Any
    quality: float = 25.0
    distillation: bool = True
    resumable: bool = False

    def __post_init__(self) -> None:
        own_numbers(self)
        _check_quality(self.quality)


@dataclass(frozen=True, kw_only=True)
class LowBit:
    """Keep matrices in 4 or 8 bits while the model runs: less memory and faster products, but a larger file.

    Matrices become ``com.microsoft.MatMulNBits``, embeddings stay in 8 bits. Nothing is decoded at load. Takes ONNX
    files and torch modules.

    Parameters
    ----------
    bits : {8, 4}
        Bits per weight. Eight-bit products round activations to 8 bits per block (relative error about 0.5 % per
        layer), because ONNX Runtime's float32 kernel is several times slower than a dense product. Four-bit products
        compute in float32.
    block_size : {32, 16, 64, 128, 256}
        Consecutive weights along the inputs that share a scale and a zero point.
    symmetric : bool
        Keep all zero points in the middle, so that they are not stored.

    Raises
    ------
    ArgumentError
        If ``bits`` or ``block_size`` is none of these.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.LowBit(bits=4)
    LowBit(bits=4, block_size=32, symmetric=False)
    """

    takes: ClassVar[frozenset[str]] = frozenset(("evaluate",))

    bits: int = 8
    block_size: int = 32
    symmetric: bool = False

    def __post_init__(self) -> None:
        own_numbers(self)
        if self.bits not in INDEX_BITS:
            raise ArgumentError(f"bits must be 4 or 8, got {self.bits}: runtimes multiply by no other widths")
        if self.block_size not in BLOCK_SIZES:
            raise ArgumentError(f"block_size must be one of {BLOCK_SIZES}, got {self.block_size}: choose one of them")


def _check_quality(quality: float | None) -> None:
    """Raise ArgumentError unless a quality is a positive number of decibels."""
    if quality is None or not 0 < quality < math.inf:
        raise ArgumentError(f"quality must be > 0, got {quality}: it is the ratio of output to error in dB")


Request: TypeAlias = WeightsOnly | Calibrated | LowBit | FineTuned
"""What ``compress`` can be asked for."""

MODES = (WeightsOnly, Calibrated, LowBit, FineTuned)
"""The classes of requests; each says in ``takes`` which arguments of ``compress`` its mode knows."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a network is steered to: exactly one of three.

    Parameters
    ----------
    ratio : float
        How many times smaller the file is than the plain ONNX file; > 1.
    target_bytes : int
        Bytes of the file; > 0.
    max_drop : float
        How much worse the metric may become; >= 0. The file becomes as small as the run can make it.

    Raises
    ------
    ArgumentError
        If none or several are given, or if one is out of range.
    """

    ratio: float | None = None
    target_bytes: int | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        own_numbers(self)
        if len(self.given) != 1:
            found = ", ".join(self.given) or "none"
            raise ArgumentError(f"exactly one of ratio, target_bytes, max_drop must be given, got {found}: choose one")
        if self.ratio is not None and not 1 < self.ratio < math.inf:
            raise ArgumentError(f"ratio must be > 1, got {self.ratio}: it is how many times smaller the file becomes")
        if self.target_bytes is not None and not self.target_bytes > 0:
            raise ArgumentError(f"target_bytes must be > 0, got {self.target_bytes}: it is the size of the file")
        if self.max_drop is not None and not 0 <= self.max_drop < math.inf:
            raise ArgumentError(f"max_drop must be >= 0, got {self.max_drop}: it is how far the metric may fall")

    @classmethod
    def of(
        cls, *, ratio: float | None = None, target_bytes: int | None = None, max_drop: float | None = None
    ) -> Goal | None:
        """The goal that was given; None if none was."""
        if ratio is None and target_bytes is None and max_drop is None:
            return None
        return cls(ratio=ratio, target_bytes=target_bytes, max_drop=max_drop)

    @property
    def given(self) -> dict[str, object]:
        """The one that was given, by its name."""
        return {name: value for name, value in vars(self).items() if value is not None}


def refuse_unknown(request: Request, given: Mapping[str, object]) -> None:
    """Refuse arguments that the mode of ``request`` does not take.

    Parameters
    ----------
    request : WeightsOnly, LowBit or FineTuned
        What is asked for; ``takes`` of its class names the arguments that it knows.
    given : mapping of str to object
        What the caller gave beside the request, by name.

    Raises
    ------
    ArgumentError
        If ``request`` is none of these, or if its mode does not take an argument. The message names the modes that do.
    """
    if not isinstance(request, MODES):
        raise ArgumentError(
            f"request must be {' or '.join(mode.__name__ for mode in MODES)}, got {request!r}: make one, "
            "for example WeightsOnly(components=32)"
        )
    mode = type(request)
    for name, value in given.items():
        if name not in mode.takes:
            raise ArgumentError(f"{name} must be left out with {mode.__name__}, got {value}: {_takers(name)}")


def _takers(name: str) -> str:
    """The modes that take an argument, as the end of an error."""
    modes = [mode.__name__ for mode in MODES if name in mode.takes]
    return f"{' and '.join(modes)} take{'s' if len(modes) == 1 else ''} it"


def cure_of(request: Request, goal: Goal | None) -> str:
    """What to ask for instead where a file is too far from the original."""
    if isinstance(request, FineTuned):
        return "ask for a larger file, or train for more epochs"
    if isinstance(request, LowBit):
        return "take 8 bits" if request.bits < max(INDEX_BITS) else "round the weights to a quality instead (--quality)"
    if isinstance(request, WeightsOnly):
        if request.components is not None:
            return "ask for a quality (--quality) instead of components, or for more of them"
        return "raise the quality (--quality), or give some hundred inputs (--calibration)"
    if goal is None:
        return "raise the quality (--quality)"
    return "ask for a larger file (--ratio, --target-bytes), or for a quality (--quality)"
