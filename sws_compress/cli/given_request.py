"""What the options of ``compress`` ask for: the request of their mode, and what the file is like."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sws_compress.cli.calibration_argument import calibration_inputs
from sws_compress.cli.config_file import is_given
from sws_compress.errors import ArgumentError

if TYPE_CHECKING:
    from sws_compress.file_options import FileOptions
    from sws_compress.quantize.granularity import Granularity
    from sws_compress.requests import Calibrated, LowBit, WeightsOnly

OF_CALIBRATED = ("resumable", "no_distillation")
"""Switches of the calibrated mode alone."""

OF_WEIGHTS_ONLY = ("components", "granularity")
"""Options of the default mode."""

SIZES = ("ratio", "target_bytes", "max_drop")
"""Options of the calibrated mode alone."""

GOALS = ("quality", *SIZES)
"""Options of the calibrated mode, of which one may be given."""

SINGLE_WEIGHTS = ("keep", "set")
"""Options about single weights."""

OF_FILE = ("load_budget", "packed_embeddings", "memory", "standard_operators_only", "drop_names")
"""Options of files whose weights are decoded."""


def request_given(options: argparse.Namespace) -> WeightsOnly | Calibrated | LowBit:
    """The request that the options make.

    Raises
    ------
    ArgumentError
        If an option belongs to another mode, or lacks what it needs.
    """
    from sws_compress.requests import Calibrated, LowBit, WeightsOnly

    if options.calibration is not None:
        _refuse(options, ("low_bit",), "be left out with --calibration, got both", "low bits need no inputs")
        cure = "ask for the size with --ratio or --target-bytes"
        _refuse(options, OF_WEIGHTS_ONLY, "be left out with --calibration, got both", cure)
        for goal in _given(options, GOALS)[1:]:
            first = _given(options, GOALS)[0]
            raise ArgumentError(f"{goal} must be left out with {first}, got both: choose one goal")
        if options.max_drop is not None and options.evaluate is None:
            raise ArgumentError(
                "--max-drop must come with --evaluate, got it alone: name the metric that may fall so far"
            )
        quality = {} if options.quality is None else {"quality": options.quality}
        return Calibrated(
            inputs=calibration_inputs(options.calibration),
            distillation=not options.no_distillation,
            resumable=options.resumable,
            **quality,
        )
    if options.low_bit is not None:
        cure = "the bits alone decide the size"
        _refuse(options, (*OF_WEIGHTS_ONLY, *GOALS), "be left out with --low-bit, got both", cure)
        cure = "nothing is decoded at load"
        _refuse(options, (*OF_FILE, *OF_CALIBRATED), "be left out with --low-bit, got both", cure)
        cure = "the bits of all weights are the same"
        _refuse(options, SINGLE_WEIGHTS, "be left out with --low-bit, got both", cure)
        return LowBit(bits=options.low_bit)
    cure = "give some hundred inputs with --calibration, or choose a --quality"
    _refuse(options, (*SIZES, *OF_CALIBRATED), "come with --calibration, got it alone", cure)
    if options.quality is not None:
        cure = "the quality decides how many values there are"
        _refuse(options, OF_WEIGHTS_ONLY, "be left out with --quality, got both", cure)
    if options.components is None:
        cure = "say how many values there are with --components"
        _refuse(options, ("granularity",), "come with --components, got it alone", cure)
    granularity = None if options.granularity is None else _granularity(options.granularity)
    return WeightsOnly(quality=options.quality, components=options.components, granularity=granularity)


def _refuse(options: argparse.Namespace, names: Sequence[str], rule: str, cure: str) -> None:
    for option in _given(options, names):
        raise ArgumentError(f"{option} must {rule}: {cure}")


def _given(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Those of some options that the user gave, as they are typed."""
    values = ((name, getattr(options, name)) for name in names)
    return [f"--{name.replace('_', '-')}" for name, value in values if is_given(value)]


def _granularity(name: str) -> Granularity:
    from sws_compress.quantize.granularity import Best, PerChannel, PerTensor, Vectors

    kind, _, length = name.partition(":")
    if kind == "vectors":
        return Vectors(length=int(length))
    named: dict[str, Granularity] = {"tensor": PerTensor(), "channel": PerChannel(), "auto": Best()}
    return named[kind]


def file_options_given(options: argparse.Namespace) -> FileOptions:
    """What the options say about the file."""
    from sws_compress.codec.load_cost import load_budget
    from sws_compress.file_options import FileOptions

    return FileOptions(
        load_budget=None if options.load_budget is None else load_budget(options.load_budget),
        weight_names=False if options.drop_names else None,
        packed_embeddings=options.packed_embeddings,
        memory=options.memory or "float",
        standard_operators_only=options.standard_operators_only,
    )
