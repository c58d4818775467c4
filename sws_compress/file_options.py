"""What a caller can ask of the written file."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sws_compress.arguments import number
from sws_compress.codec.load_cost import FREE, LoadCost
from sws_compress.errors import ArgumentError

FLOAT, PACKED = MEMORY = ("float", "packed")
"""What weights may be while a model runs."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What the written file is like.

    Parameters
    ----------
    load_budget : LoadCost, optional
        What loading may cost on one thread beyond what the runtime needs anyway. Encodings whose estimated cost
        exceeds their share are not used; where none is left, the fastest is. By default 0.5 s and 64 MB, plus 0.17 s
        and 47 MB per million weights.
    weight_names : bool, optional
        Keep the names of weights. Without them a very small or very deep model is some percent smaller; the result
        still lists them. By default they are kept, but for trained files of which they would take more than 2 %, which
        a note tells.
    packed_embeddings : bool
        Keep tables that are read by Gather alone packed while the model runs; every look-up decodes its rows. That
        takes a seventh of the memory with 16 components and loads faster, but look-ups are slower and the file is
        larger where codes would be shorter than words of a fixed length. A note names every table that cannot stay
        packed.
    memory : {"float", "packed"}
        What weights are while the model runs. "float" decodes them to what they were. "packed" ends in integers of 2, 4
        or 8 bits wherever the runtime has kernels or the work is large beside them: matrix products, convolutions and
        embeddings. That takes a quarter of the memory or less, and products are faster. Even codebooks stay exact;
        others move to the nearest integers, and a note tells what that adds. Activations of products are rounded to 8
        bits per block.
    standard_operators_only : bool
        With "packed", do without operators of ONNX Runtime's own (com.microsoft). It fuses the standard ones to the
        same products; other runtimes may decode them at every run.
    prune_units : bool
        Torch modules: leave out hidden units and channels that nothing reads or that are always zero, and biases that
        are all zero. Outputs stay the same. Weights with scales per channel and vectors keep all their units.

    Raises
    ------
    ArgumentError
        If ``load_budget`` is no LoadCost.

    Examples
    --------
    >>> import sws_compress as sws
    >>> sws.FileOptions(load_budget=sws.LoadCost(seconds=2, peak_bytes=300e6)).prune_units
    True
    """

    load_budget: LoadCost | None = None
    weight_names: bool | None = None
    packed_embeddings: bool = False
    memory: str = FLOAT
    standard_operators_only: bool = False
    prune_units: bool = True

    def __post_init__(self) -> None:
        if self.memory not in MEMORY:
            raise ArgumentError(f"memory must be {' or '.join(MEMORY)}, got {self.memory}: choose one of them")
        if self.standard_operators_only and self.memory != PACKED:
            raise ArgumentError(
                f"standard_operators_only must come with memory {PACKED}, got {self.memory}: other files have no others"
            )
        if not (self.load_budget is None or isinstance(self.load_budget, LoadCost)):
            raise ArgumentError(
                f"load_budget must be a LoadCost, got {self.load_budget!r}: write LoadCost(seconds=2, peak_bytes=300e6)"
            )
        for name, value in vars(self.load_budget or FREE).items():
            number(f"load_budget.{name}", value)

    @property
    def changed(self) -> dict[str, object]:
        """The options that are not at their defaults, by name."""
        values = ((entry.name, getattr(self, entry.name), entry.default) for entry in fields(self))
        return {name: value for name, value, default in values if value != default}
