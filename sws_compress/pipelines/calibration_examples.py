"""Example inputs of a module from its calibration inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sws_compress.pipelines.calibration_inputs import given_sets
from sws_compress.pipelines.calls import EXAMPLE_ROWS, positional
from sws_compress.pipelines.job import Job
from sws_compress.requests import Calibrated

if TYPE_CHECKING:
    from torch import nn


def with_examples(module: nn.Module, request: Calibrated, job: Job) -> tuple[Calibrated, Job]:
    """The request, and the job with example inputs: the caller's, or the first calibration inputs.

    Parameters
    ----------
    module : nn.Module
        The network. What a loader yields besides the arguments that ``forward`` needs, such as labels, is left out.
    request : Calibrated
        Its inputs may be an iterator, which the returned request begins anew.
    job : Job
        Everything else.

    Raises
    ------
    ArgumentError
        If the calibration inputs are nothing of the kind.
    DataError
        If they cannot be read, or if the module does not take them.
    """
    import torch

    from sws_compress.train.first_batch import first_rows

    if job.inputs is not None:
        return request, job
    with torch.random.fork_rng([]):  # a loader that shuffles draws
        sets = iter(given_sets(request.inputs))
        first = next(sets, None)
    if first is None:
        return request, job
    if isinstance(request.inputs, Iterator):
        request = replace(request, inputs=itertools.chain([first], sets))
    return request, replace(job, inputs=first_rows(positional(module, _arguments(module, first)), EXAMPLE_ROWS))


def _arguments(module: nn.Module, given: Any) -> Any:
    """One set of inputs as the arguments of one call: a dict by name, a tuple, or a lone argument."""
    from sws_compress.train.batches import signature_of

    if not isinstance(given, list | tuple) or not given:
        return given
    if isinstance(given[0], Mapping):
        return given[0]  # before the labels
    needed = [each for each in signature_of(module).parameters.values() if each.default is each.empty]
    several = sum(each.kind is each.POSITIONAL_OR_KEYWORD or each.kind is each.POSITIONAL_ONLY for each in needed)
    return tuple(given[: max(several, 1)])
