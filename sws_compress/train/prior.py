"""SoftWeightSharing: the mixture prior beside any training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.palette import Palette, check_components, palette_of
from sws_compress.train.device_histogram import moment_table
from sws_compress.train.identity import refuse_other, settings_by_name
from sws_compress.train.optimizers import StepWatch, check_optimizer, groups_by_parameter, unwrapped
from sws_compress.train.ranks import Ranks, forget_gathered, is_sharded, local, undistributed
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import Selection, select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages.group_state import CODEBOOK_ENTRY_BITS
from sws_compress.train.stages.hard import START_RATE, HardStage
from sws_compress.train.stages.soft import SoftStage, agreed_grids

FLOAT_BITS = 32
FIRST_CUT = 0.9
"""Share of the first coded bits that the first rate is set to reach: below it bits hardly answer to the rate."""


class SoftWeightSharing:
    """Soft weight sharing (Nowlan & Hinton 1992) around a torch model and its optimiser.

        prior = SoftWeightSharing(net, optimizer, components=16, total_steps=len(loader) * epochs)
        for x, y in batches:
            loss(net(x), y).backward(); optimizer.step(); prior.step(); optimizer.zero_grad()
        palettes = prior.snap()

    ``step`` follows every optimiser step, before the gradients are cleared; it does nothing unless the optimiser has
    moved since. With ``total_steps`` it runs the whole alternation by itself: EM steps at the schedule's intervals,
    then the hard stage, then codebook tuning. Without it the prior stays in the soft stage at its final strength, and
    ``update`` (the EM step) is the caller's. Names are those of the module without ``torch.compile``, DataParallel and
    DistributedDataParallel around it.

    components    mixture components per group, 2..256, one of them at zero
    ratio         32 bits * (selected weights) / (coded bits) to reach in the hard stage
    strength      instead of a ratio: the price of a bit (lambda) at the end of its ramp, in mean sensitivity-weighted
                  squared weights; whatever size comes out
    parameters    which parameters: predicate on (name, parameter), names, or None for all weights of
                  linear, convolution, embedding and recurrent modules
    sharing       one mixture per tensor, per module or for the model
    ranks         the processes that train ``model`` together; None for all of torch.distributed, if it is in use

    Under DistributedDataParallel and ``fully_shard`` every rank makes a prior of its own and calls the same methods in
    the same order. These communicate: making a prior, ``step`` where it is due to update and in the tuning stage,
    ``update``, ``meet_bits``, ``meet_rate`` and ``mixtures`` from the hard stage on, ``histograms``, ``check_finite``,
    ``snap``; where parameters are sharded also ``palettes``, and ``state_dict`` from the hard stage on. See
    docs/distributed.md.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        components: int = 16,
        ratio: float = 20.0,
        strength: float | None = None,
        total_steps: int | None = None,
        schedule: Schedule | None = None,
        parameters: Selection | None = None,
        sharing: Sharing = Sharing.TENSOR,
        ranks: Ranks | None = None,
    ) -> None:
        check_components(components)
        if not ratio > 1:
            raise ArgumentError(f"ratio must be > 1, got {ratio}: it is how many times smaller the weights become")
        if strength is not None and not 0 < strength < math.inf:
            raise ArgumentError(f"strength must be > 0, got {strength}: leave it out to reach a ratio")
        if total_steps is not None and total_steps < 1:
            raise ArgumentError(f"total_steps must be >= 1, got {total_steps}: count the optimizer steps of the run")
        self.optimizer = unwrapped(optimizer)
        check_optimizer(self.optimizer)
        self.schedule = schedule or Schedule()
        self.ratio = float(ratio)  # Python's own numbers: a state that holds NumPy's cannot be read again
        self.strength = None if strength is None else float(strength)
        self._components = components
        self.total_steps = total_steps
        self.steps = 0
        self.ranks = Ranks.of() if ranks is None else ranks
        self._model = model
        self.groups = select_parameters(undistributed(model), parameters, sharing=sharing, ranks=self.ranks)
        self._check_groups()
        self._soft = SoftStage(self.groups, components, self.schedule.variance_floor(0.0), self.ranks)
        self._hard: HardStage | None = None
        self._first_bits: float | None = None
        self._held_bits: float | None = None
        self.final_bits = FLOAT_BITS * self._elements / self.ratio
        """Coded bits that the hard stage ends at; whoever steers the run may change it."""
        self._watch = StepWatch(self.optimizer)

    def hold_bits(self, bits: float) -> None:
        """Aim for so many coded bits from the next EM step on, whatever the schedule says."""
        self._held_bits = bits

    def meet_bits(self, bits: float) -> None:
        """Assign the weights of the hard stage so that they take ``bits`` coded bits, or as many as they can."""
        if self._hard is not None:
            self._hard.find_rate(bits)

    def meet_rate(self, rate: float) -> None:
        """Assign the weights of the hard stage at this price of a bit."""
        if self._hard is not None:
            self._hard.assign_at(rate)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1; the end of the soft stage when ``total_steps`` is unknown."""
        if self.total_steps is None:
            return self.schedule.soft_until * (1 - 1e-9)
        return min(self.steps / self.total_steps, 1.0)

    @property
    def stage(self) -> Stage:
        """Where the run is; always SOFT without ``total_steps``.

        If the schedule tunes at all, the last step of a run does, however short the run: it assigns the weights for
        the size that was asked for.
        """
        if self.total_steps is None:
            return Stage.SOFT
        tunes = self.schedule.soft_until < 1 and self.schedule.tune_from < 1
        last = self.steps >= self.total_steps - 1
        return Stage.TUNE if tunes and last else self.schedule.stage(self.progress)

    @property
    def tuning(self) -> bool:
        """Whether codebook tuning has begun: no step assigns weights any more."""
        return self._hard is not None and self._hard.tuning

    @property
    def mixtures(self) -> dict[str, Mixture]:
        """The present mixture of every compressed parameter, by name; members of a group have the same one."""
        mixtures = self._soft.mixtures if self._hard is None else self._hard.mixtures()
        return {name: mixture for group, mixture in zip(self.groups, mixtures, strict=True) for name in group.names}

    @property
    def coded_bits(self) -> float | None:
        """Order-0 entropy of all assignments plus codebooks, in bits, at the last EM step; None in the soft stage."""
        return None if self._hard is None else self._hard.coded_bits()

    @property
    def coded_ratio(self) -> float | None:
        """32 bits per compressed parameter over ``coded_bits``; None in the soft stage."""
        bits = self.coded_bits
        return None if bits is None else FLOAT_BITS * self._elements / bits

    @property
    def rate(self) -> float | None:
        """Price of a bit (lambda) in the hard stage, in mean sensitivity-weighted squared weights."""
        return None if self._hard is None else self._hard.rate

    @property
    def living_components(self) -> dict[str, int]:
        """How many components of each group have members in the hard stage, zero included; empty before it."""
        if self._hard is None:
            return {}
        return {group.label: count for group, count in zip(self.groups, self._hard.living_components, strict=True)}

    @property
    def mergers(self) -> int:
        """How many components have been merged into a neighbour so far, in all groups."""
        return 0 if self._hard is None else sum(state.mergers for state in self._hard.states)

    def histograms(
        self, ranges: Mapping[str, tuple[float, float]] | None = None, *, bins: int = 256
    ) -> dict[str, WeightHistogram]:
        """How the latent weights of every compressed parameter spread, by name: a few numbers, whatever their size.

        They are the parameters themselves in the soft stage, what lies behind the snapped values later. ``ranges``
        (low, high) by name; a weight outside counts in the first or last bin; by default from the least to the
        greatest. Of the weights on all ranks: one reduction, or two without ``ranges``. Raises TrainingError when a
        weight is NaN or infinite.
        """
        owners = [group for group in self.groups for _ in group.names]
        names = [name for group in self.groups for name in group.names]
        parts = [part for members in self._latents() for part in members]
        if ranges is None:
            grids = agreed_grids(owners, [[part] for part in parts], self.ranks)
        else:
            grids = [ranges[name] for name in names]
        parameters = [parameter for group in self.groups for parameter in group.parameters]
        tables = []
        for parameter, part, (low, high) in zip(parameters, parts, grids, strict=True):
            counted = part if self.ranks.counts(parameter) else part[:0]
            tables.append(moment_table(counted, low=low, high=high, bins=bins))
        histograms = {}
        for owner, name, grid, table in zip(owners, names, grids, self.ranks.sums(tables), strict=True):
            if not bool(table.isfinite().all()):
                raise owner.diverged()
            histograms[name] = WeightHistogram.of_moments(*grid, table.cpu().numpy())
        return histograms

    def check_finite(self) -> None:
        """Raise TrainingError, on all ranks, when a latent weight is NaN or infinite; one reduction."""
        agreed_grids(self.groups, self._latents(), self.ranks)

    def _latents(self) -> list[list[torch.Tensor]]:
        """What this rank holds of the latent weights, by group and member."""
        if self._hard is None:
            return [group.shards() for group in self.groups]
        return [state.latent for state in self._hard.states]

    def step(self) -> None:
        """After ``optimizer.step()``, before ``zero_grad()``: pull, and whatever the schedule says is due.

        Neither counts nor changes anything when the optimiser has not moved since the last call: between two steps of
        accumulated gradients, or when GradScaler skipped a step.
        """
        if not self._watch.moved():
            return
        stage = self.stage
        self.steps += 1
        due = self.total_steps is not None and self.steps % self.schedule.update_every(stage) == 0
        last = self.steps == self.total_steps
        if stage is Stage.TUNE and self._hard is None and last:
            self.update()  # in a run too short for a step in the hard stage
        if stage is Stage.SOFT:
            strength = self.schedule.pull_strength(self.progress)
            self._soft.pull(self.optimizer, strength, penalty=self.schedule.penalty is not None)
        elif self._hard is None:
            due = True
        elif stage is Stage.HARD:
            self._hard.step(self.optimizer, self.schedule.hard_pull)
        else:
            if not self.tuning:
                if self.strength is None:
                    self.meet_bits(self.final_bits if self._held_bits is None else self._held_bits)
                elif last and self.rate != self.strength:
                    self.meet_rate(self.strength)  # EM steps were too few to get there
            self._hard.tune_step(self.optimizer, self.schedule.codebook_rate)
            due = False
        if due:
            self.update()

    def update(self) -> None:
        """The EM step: of the mixtures in the soft stage, of assignments, pi and mu in the hard stage."""
        forget_gathered(self._model)
        stage = self.stage
        if stage is Stage.SOFT:
            self._soft.update(self.optimizer, self.schedule.variance_floor(self.progress))
            return
        if self._hard is None or self._first_bits is None:
            # Assigned at once, whatever stage comes next: unassigned weights would all be tuned and snapped as zeros.
            self._hard = HardStage(self.groups, self._soft.mixtures, self.schedule.sensitivity_power, self.ranks)
            self._hard.update(self.optimizer, self.final_bits)
            self._first_bits = max(self._hard.coded_bits(), self.final_bits)
            if self.strength is None:
                self._hard.find_rate(max(FIRST_CUT * self._first_bits, self.final_bits))
        if stage is not Stage.HARD:
            return
        if self.strength is not None:
            self._hard.rate = self.schedule.rate(self.progress, START_RATE, self.strength)
            self._hard.update(self.optimizer, None)
        else:
            path = self.schedule.target_bits(self.progress, self._first_bits, self.final_bits)
            self._hard.update(self.optimizer, path if self._held_bits is None else self._held_bits)

    @property
    def _elements(self) -> int:
        return sum(group.elements for group in self.groups)

    def _check_groups(self) -> None:
        """ArgumentError for a parameter that the optimiser lacks, or a ratio that codebooks alone would exceed."""
        known = groups_by_parameter(self.optimizer)
        for group in self.groups:
            for name, parameter in zip(group.names, group.parameters, strict=True):
                if id(parameter) not in known:
                    raise ArgumentError(
                        f"every compressed parameter must be in the optimizer, got {name}, which is not: "
                        "pass model.parameters() to the optimizer or leave the parameter out"
                    )
        most = FLOAT_BITS * self._elements / (CODEBOOK_ENTRY_BITS * len(self.groups))
        if self.total_steps is not None and self.ratio >= most:
            raise ArgumentError(
                f"ratio must be < {most:.4g} for these weights, got {self.ratio}: "
                "with one codebook entry for each group and nothing else they are that many times smaller"
            )

    def snap(self) -> dict[str, Palette]:
        """Set every compressed parameter to a cluster mean; the palettes by parameter name, exactly what they hold.

        Parameters of half precision hold the means rounded to their own dtype, and so do their palettes. Palettes of
        sharded parameters are on the first rank alone: one parameter after the other is gathered on the device.
        """
        forget_gathered(self._model)
        if self._hard is None:
            self._soft.snap()
        else:
            self._hard.round_codebooks()
        return self.palettes()

    def palettes(self) -> dict[str, Palette]:
        """The palettes of the compressed parameters as they are, which must be snapped."""
        palettes = {}
        for group in self.groups:
            for name, parameter in zip(group.names, group.parameters, strict=True):
                whole = self.ranks.whole(local(parameter), parameter)
                if is_sharded(parameter) and self.ranks.rank != 0:
                    continue
                palette = palette_of(whole.float().cpu().numpy())
                assert palette is not None  # it holds at most as many values as there are components
                palettes[name] = palette
        return palettes

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs to go on exactly: tensors, numbers, lists and dicts.

        Where parameters are sharded the state is of whole tensors, in CPU memory of the first rank; the others get {}.
        """
        state = {
            "steps": self.steps,
            "settings": self._settings(),
            "shapes": self._shapes(),
            "first_bits": self._first_bits,
            "final_bits": self.final_bits,
            "held_bits": self._held_bits,
            "soft": self._soft.state_dict(),
            "hard": None if self._hard is None else self._hard.state_dict(),
        }
        sharded = any(is_sharded(parameter) for group in self.groups for parameter in group.parameters)
        return {} if sharded and self.ranks.rank != 0 else state

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from ``state_dict``, of any number of ranks; model and optimiser are restored by the caller.

        Raises ArgumentError when the state is of other parameters or settings.
        """
        refuse_other(saved["settings"], self._settings(), "use the same data and settings, or start anew")
        if saved["shapes"] != self._shapes():
            raise ArgumentError(
                "compressed parameters must be those of the saved run, got other names, shapes or groups: "
                "use the same model and selection, or start anew"
            )
        forget_gathered(self._model)
        self.steps = saved["steps"]
        self._first_bits = saved["first_bits"]
        self.final_bits, self._held_bits = saved["final_bits"], saved["held_bits"]
        self._soft.load_state_dict(saved["soft"])
        self._hard = None
        if saved["hard"] is not None:
            self._hard = HardStage(self.groups, self._soft.mixtures, self.schedule.sensitivity_power, self.ranks)
            self._hard.load_state_dict(saved["hard"])

    def _settings(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the saved one, by name."""
        own = {
            "total_steps": self.total_steps,
            "components": self._components,
            "ratio": self.ratio,
            "strength": self.strength,
        }
        return own | {f"schedule.{name}": value for name, value in settings_by_name(self.schedule).items()}

    def _shapes(self) -> list[dict[str, list[int]]]:
        """Names and shapes of the parameters, group by group."""
        return [group.shapes for group in self.groups]
