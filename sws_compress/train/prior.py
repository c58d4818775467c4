"""SoftWeightSharing: the mixture prior beside any training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sws_compress.arguments import check_kind, number, whole_number
from sws_compress.errors import ArgumentError
from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.palette import Palette, check_components
from sws_compress.train.alternation import Alternation
from sws_compress.train.identity import refuse_other, settings_by_name
from sws_compress.train.optimizers import StepWatch, check_in_optimizer, check_optimizer, unwrapped
from sws_compress.train.ranks import Ranks, forget_gathered, is_sharded, undistributed
from sws_compress.train.readiness import checked_module
from sws_compress.train.readings import held_palettes, latent_histograms
from sws_compress.train.request import check_bit_price
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import ParameterGroup, Selection, select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages.price import PriceRamp, SizeFeedback
from sws_compress.train.stages.saved import check_alternation
from sws_compress.train.stages.snapped import greatest_ratio
from sws_compress.train.stages.soft import agreed_grids
from sws_compress.train.targets import DEFAULT_CODED_RATIO, FLOAT_BITS, AssignedWeights, FixedSize, SizeTarget


class SoftWeightSharing:
    """Soft weight sharing around a torch model and its optimiser.

    The prior runs the whole alternation by itself: EM steps at the schedule's intervals in the soft stage, then the
    hard stage, then codebook tuning. Without ``total_steps`` it stays in the soft stage at its final strength, and the
    caller calls `update` (the EM step).

    Parameters
    ----------
    model : torch.nn.Module
        The network. It may be wrapped by ``torch.compile``, DataParallel, DistributedDataParallel or ``fully_shard``;
        names are those of the module inside.
    optimizer : torch.optim.Optimizer
        SGD, Adam or AdamW over at least the compressed parameters.
    components : int, default 16
        Mixture components of each group, 2..256, one of them at zero.
    coded_ratio : float, default 20.0
        Size to reach in the hard stage: 32 bits per compressed weight over the coded bits.
    bit_price : float, optional
        Price of a bit (lambda) at the end of its ramp, in place of a size: in mean sensitivity-weighted squared weights
        per bit.
    size_target : SizeTarget, optional
        Asked at every EM step how many coded bits to aim for, in place of ``coded_ratio``, by a run that measures
        itself: any object with ``final_bits``, ``bits(progress, first_bits)`` and ``settle(weights)``.
    total_steps : int, optional
        Optimiser steps of the whole run.
    schedule : Schedule, optional
        How the run tightens.
    parameters : callable or iterable of str, optional
        Parameters to compress: a predicate on ``(name, parameter)``, or names. Default: the weights of layers,
        and all other matrices, learned positions among them (`default_weights`).
    sharing : Sharing, default Sharing.TENSOR
        Which of these parameters share one mixture.
    groups : sequence of ParameterGroup, optional
        What `select_parameters` chose, in place of ``parameters`` and ``sharing``.
    ranks : Ranks, optional
        The processes that train ``model`` together. Default: all of torch.distributed, if it is in use.

    Raises
    ------
    ArgumentError
        If a value is out of range, a compressed parameter is not in the optimiser, or ranks chose other parameters.
    ModelError
        If there is nothing to compress.

    Notes
    -----
    Under DistributedDataParallel and ``fully_shard`` every rank makes a prior of its own and calls the same methods in
    the same order. These communicate: making a prior, `step` where it is due to update and in the tuning stage,
    `update`, `mixtures` from the hard stage on, `histograms`, `check_finite`, `snap`; where parameters are sharded also
    `palettes`, and `state_dict` from the hard stage on. See docs/distributed.md.

    References
    ----------
    Nowlan & Hinton, Simplifying neural networks by soft weight-sharing, 1992.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(32, 16)
    >>> optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    >>> prior = SoftWeightSharing(net, optimizer, components=4, coded_ratio=10, total_steps=40)
    >>> for _ in range(40):
    ...     net(torch.randn(8, 32)).square().mean().backward()
    ...     optimizer.step()
    ...     prior.step()  # before the gradients are cleared
    ...     optimizer.zero_grad()
    >>> palettes = prior.snap()
    >>> len(net.weight.unique()) == len(palettes["weight"].codebook) <= 4
    True
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        components: int = 16,
        coded_ratio: float = DEFAULT_CODED_RATIO,
        bit_price: float | None = None,
        size_target: SizeTarget | None = None,
        total_steps: int | None = None,
        schedule: Schedule | None = None,
        parameters: Selection | None = None,
        sharing: Sharing = Sharing.TENSOR,
        groups: Sequence[ParameterGroup] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        components, ratio = whole_number("components", components), number("coded_ratio", coded_ratio)
        check_components(components)
        if not ratio > 1:
            raise ArgumentError(
                f"coded_ratio must be > 1, got {ratio}: it is how many times smaller the weights become"
            )
        bit_price = None if bit_price is None else number("bit_price", bit_price)
        check_bit_price(bit_price)
        if bit_price is not None and size_target is not None:
            raise ArgumentError("bit_price must be left out with size_target, got both: give one")
        total_steps = None if total_steps is None else whole_number("total_steps", total_steps)
        if total_steps is not None and total_steps < 1:
            raise ArgumentError(f"total_steps must be >= 1, got {total_steps}: count the optimizer steps of the run")
        self.optimizer = unwrapped(optimizer)
        check_optimizer(self.optimizer)
        self.schedule = Schedule() if schedule is None else schedule
        check_kind("schedule", self.schedule, Schedule, "Schedule(soft_until=0.2)")
        check_kind("sharing", sharing, Sharing, "Sharing.MODULE")
        self.total_steps = total_steps
        self.ranks = Ranks.of() if ranks is None else ranks
        self._model, self._components = model, components
        self._ratio, self._bit_price = float(ratio), None if bit_price is None else float(bit_price)
        if groups is None:
            groups = select_parameters(
                undistributed(checked_module(model)), parameters, sharing=sharing, ranks=self.ranks
            )
        self.groups = groups
        for group in groups:
            check_in_optimizer(self.optimizer, zip(group.names, group.parameters, strict=True))
        greatest = greatest_ratio(groups)
        if size_target is None and total_steps is not None and ratio >= greatest:
            raise ArgumentError(
                f"coded_ratio must be < {greatest:.4g} for these weights, got {self._ratio}: "
                "with one codebook entry for each group and nothing else they are that many times smaller"
            )
        self.size_target = size_target or FixedSize(FLOAT_BITS * self._elements / self._ratio, self.schedule)
        price = SizeFeedback(self.size_target) if self._bit_price is None else PriceRamp(self._bit_price, self.schedule)
        self._alternation = Alternation(groups, components, price, self.schedule, total_steps, self.ranks)
        self._watch = StepWatch(self.optimizer)

    # -- where the run is ------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return self._alternation.steps

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1; the end of the soft stage if ``total_steps`` is unknown."""
        return self._alternation.progress

    @property
    def stage(self) -> Stage:
        """Stage of the next step; always SOFT without ``total_steps``."""
        return self._alternation.due

    @property
    def tuning(self) -> bool:
        """Whether codebook tuning has begun: no step assigns weights any more."""
        return self._alternation.now.kind is Stage.TUNE

    @property
    def snapped_weights(self) -> AssignedWeights | None:
        """The snapped weights, which can be assigned at another price; None in the soft stage."""
        return self._alternation.now.weights

    @property
    def mixtures(self) -> dict[str, Mixture]:
        """Present mixture of every compressed parameter, by name; members of a group have the same one."""
        mixtures = self._alternation.now.mixtures()
        return {name: mixture for group, mixture in zip(self.groups, mixtures, strict=True) for name in group.names}

    @property
    def coded_bits(self) -> float | None:
        """Order-0 entropy of assignments plus codebooks, in bits, at the last assignment; None in the soft stage."""
        weights = self._alternation.now.weights
        return None if weights is None else weights.coded_bits

    @property
    def coded_ratio(self) -> float | None:
        """32 bits per compressed weight over `coded_bits`; None in the soft stage."""
        bits = self.coded_bits
        return None if bits is None else FLOAT_BITS * self._elements / bits

    @property
    def bit_price(self) -> float | None:
        """Present price of a bit, in mean sensitivity-weighted squared weights; None in the soft stage."""
        weights = self._alternation.now.weights
        return None if weights is None else weights.bit_price

    @property
    def living_components(self) -> dict[str, int]:
        """Components with members, zero included, by label of the group; empty in the soft stage."""
        weights = self._alternation.now.weights
        if weights is None:
            return {}
        return {group.label: count for group, count in zip(self.groups, weights.living_components, strict=True)}

    @property
    def mergers(self) -> int:
        """Components that were merged into a neighbour so far, over all groups."""
        weights = self._alternation.now.weights
        return 0 if weights is None else weights.mergers

    def latent_weights(self) -> dict[str, torch.Tensor]:
        """Latent weights on this rank, by name: the live tensors; in the soft stage the parameters themselves."""
        members = zip(self.groups, self._alternation.now.latents(), strict=True)
        return {name: part for group, parts in members for name, part in zip(group.names, parts, strict=True)}

    def histograms(
        self, ranges: Mapping[str, tuple[float, float]] | None = None, *, bins: int = 256
    ) -> dict[str, WeightHistogram]:
        """Histograms of the latent weights of every compressed parameter, over all ranks.

        Parameters
        ----------
        ranges : mapping of str to (float, float), optional
            Ends of each histogram, by name; a weight outside counts in the first or last bin. Default: from the least
            to the greatest weight.
        bins : int, default 256
            Bins of each histogram.

        Returns
        -------
        dict of str to WeightHistogram
            By parameter name. One reduction over the ranks, or two without ``ranges``.

        Raises
        ------
        TrainingError
            If a weight is NaN or infinite.
        """
        return latent_histograms(self.groups, self.latent_weights(), self.ranks, ranges, bins)

    def check_finite(self) -> None:
        """Raise TrainingError, on all ranks, if a latent weight is NaN or infinite; one reduction."""
        agreed_grids(self.groups, self._alternation.now.latents(), self.ranks)

    # -- what a loop calls -----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do what is due after ``optimizer.step()``, before ``zero_grad()``.

        Nothing happens, and nothing is counted, unless the optimiser has moved since the last call: between two steps
        of accumulated gradients, or when GradScaler skipped a step.

        Raises
        ------
        TrainingError
            If a weight is NaN or infinite.
        """
        if self._watch.moved():
            forget_gathered(self._model)
            self._alternation.step(self.optimizer)

    def update(self) -> None:
        """EM step: of the mixtures in the soft stage, of assignments, pi and mu in the hard stage.

        Raises
        ------
        TrainingError
            If a weight is NaN or infinite.
        """
        forget_gathered(self._model)
        self._alternation.update(self.optimizer)

    def snap(self) -> dict[str, Palette]:
        """Set every compressed parameter to cluster means.

        Parameters of half precision hold the means rounded to their own dtype.

        Returns
        -------
        dict of str to Palette
            By parameter name, exactly what the parameters hold. Palettes of sharded parameters are on the first rank
            alone; one parameter after the other is gathered on the device.

        Raises
        ------
        TrainingError
            If a weight is NaN or infinite.
        """
        forget_gathered(self._model)
        self._alternation.now.snap()
        return self.palettes()

    def palettes(self) -> dict[str, Palette]:
        """Palettes of the compressed parameters as they are, by name; the parameters must be snapped."""
        return held_palettes(self.groups, self.ranks)

    def assign_bits(self, coded_bits: float) -> None:
        """Assign the snapped weights so that they take ``coded_bits``; nothing in the soft and the tuning stage."""
        if self._alternation.now.kind is Stage.HARD and self._alternation.now.weights is not None:
            self._alternation.now.weights.assign_bits(coded_bits)

    # -- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State that `load_state_dict` goes on from exactly, as tensors, numbers, lists and dicts.

        Where parameters are sharded the state is of whole tensors, in CPU memory of the first rank; the others get an
        empty dict.
        """
        state = {
            "settings": self._settings(),
            "shapes": self._shapes(),
            "alternation": self._alternation.state_dict(),
        }
        sharded = any(is_sharded(parameter) for group in self.groups for parameter in group.parameters)
        return {} if sharded and self.ranks.rank != 0 else state

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a state of any number of ranks; model and optimiser are restored by the caller.

        Parameters
        ----------
        saved : dict
            What `state_dict` returned.

        Raises
        ------
        ArgumentError
            If the state is of other parameters or settings, or a tensor in it has another shape or dtype. Nothing is
            loaded then.
        """
        refuse_other(saved["settings"], self._settings(), "use the same data and settings, or start anew")
        if saved["shapes"] != self._shapes():
            raise ArgumentError(
                "compressed parameters must be those of the saved run, got other names, shapes or groups: "
                "use the same model and selection, or start anew"
            )
        check_alternation(saved["alternation"], self.groups)
        forget_gathered(self._model)
        self._alternation.load_state_dict(saved["alternation"])

    def _settings(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the saved one, by name."""
        own = {
            "total_steps": self.total_steps,
            "components": self._components,
            "coded_ratio": self._ratio,
            "bit_price": self._bit_price,
        }
        return own | {f"schedule.{name}": value for name, value in settings_by_name(self.schedule).items()}

    def _shapes(self) -> list[dict[str, list[int]]]:
        """Names and shapes of the parameters, group by group."""
        return [group.shapes for group in self.groups]

    @property
    def _elements(self) -> int:
        return sum(group.elements for group in self.groups)
