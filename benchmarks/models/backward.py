"""Sensitivities by backward pass beside those by trials: errors on held-out inputs at equal bytes.

    python -m benchmarks.models.backward --data FOLDER [--only NAME ...] [--ratios 10 16]

`compress` tries every layer with one random error and runs the network. What an error in an output of a layer costs, it
takes from the energy e of the output: e^-0.5. Here gradients of random projections of the scores (Hutchinson 1990) tell
what an error in each output of a layer does: G, the sum of their squares over all positions. They replace the trials
("levels"), or the costs of outputs are G^a e^-b. Nothing is distilled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

import sws_compress as sws
from benchmarks.models.distilled import images_of, network_of
from benchmarks.models.places import add_arguments
from benchmarks.models.train import accuracy_percent
from sws_compress.calibrate.bit_allocation import Sample
from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.moments import Array, output_energy
from sws_compress.pipelines.places import Place
from sws_compress.pipelines.price_search import PriceSearch

MODELS = ("lenet", "transformer", "resnet20")
PROJECTIONS = 4
LEAST = 1e-8
"""Sensitivity of an output at least, relative to the mean of its layer."""

LEAST_SHARE = 1e-10
"""The same for the energy of an output."""

WAYS: dict[str, tuple[bool, float, float]] = {
    "trials, e^-0.5": (False, 0.0, 0.5),
    "levels, e^-0.5": (True, 0.0, 0.5),
    "trials, G^0.5": (False, 0.5, 0.0),
    "levels, G^0.5": (True, 0.5, 0.0),
    "trials, G^0.5 e^-0.5": (False, 0.5, 0.5),
    "trials, G^0.25 e^-0.25": (False, 0.25, 0.25),
    "trials, e^-0.25": (False, 0.0, 0.25),
}
"""Whether levels come from gradients, and the exponents a and b."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--ratios", nargs="+", type=float, default=[10.0, 16.0])
    parser.add_argument("--rows", type=int, default=256)
    arguments = parser.parse_args()
    print(
        "| model | ratio | sensitivities | bytes | held-out error % | test % | seconds |\n|---|---|---|---|---|---|---|"
    )
    for name in arguments.only:
        network = network_of(name, arguments.data, arguments.folder)
        (images, _), test = (images_of(name, split, arguments.data) for split in ("train", "test"))
        inputs = images[: arguments.rows].clone()
        for ratio in arguments.ratios:
            for way in arguments.ways:
                by_gradient, of_gradients, of_energies = WAYS[way]
                started = time.perf_counter()
                gradients = output_sensitivities(network, inputs)
                spent = time.perf_counter() - started
                with replaced(gradients, by_gradient, of_gradients, of_energies):
                    result = sws.compress(
                        network,
                        arguments.folder / "backward.onnx",
                        sws.Calibrated(inputs=[inputs], distillation=False),
                        ratio=ratio,
                        example_inputs=inputs[:2],
                    )
                assert result.network is not None
                print(
                    f"| {name} | {ratio:g} | {way} | {result.file_bytes:,} | {100 * result.score_error:.2f} | "
                    f"{accuracy_percent(result.network, *test):.2f} | {spent:.1f} |",
                    flush=True,
                )


def output_sensitivities(network: nn.Module, inputs: Tensor) -> dict[str, Array]:
    """Squared relative change of the scores per variance of an error in each output, by name of the weight."""
    layers = {
        f"{name}.weight": part for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)
    }
    outputs: dict[str, Tensor] = {}
    totals = {name: np.zeros(part.weight.shape[0]) for name, part in layers.items()}
    hooks = [part.register_forward_hook(_kept(outputs, name)) for name, part in layers.items()]
    random, energy = torch.Generator().manual_seed(0), 0.0
    try:
        for batch in inputs.split(32):
            scores = network(batch)
            energy += float(scores.detach().square().sum())
            for _ in range(PROJECTIONS):
                signs = torch.randint(2, scores.shape, generator=random) * 2.0 - 1
                found = torch.autograd.grad((signs * scores).sum(), list(outputs.values()), retain_graph=True)
                for name, gradient in zip(outputs, found, strict=True):
                    axis = 1 if isinstance(layers[name], nn.Conv2d) else -1
                    totals[name] += gradient.square().movedim(axis, 0).flatten(1).sum(dim=1).double().numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / (PROJECTIONS * energy) for name, total in totals.items()}


def _kept(outputs: dict[str, Tensor], name: str) -> Callable[[Any, Any, Tensor], None]:
    def hook(part: nn.Module, arguments: Any, output: Tensor) -> None:
        outputs[name] = output

    return hook


@contextmanager
def replaced(gradients: dict[str, Array], by_gradient: bool, of_gradients: float, of_energies: float) -> Iterator[None]:
    """Sensitivities of `compress` from gradients, and costs of outputs with these exponents."""
    layer_of, sample_of = Place.layer, PriceSearch._sample

    def layer(self: Place, *given: Any) -> Layer:
        found = layer_of(self, *given)
        own = gradients.get(self.weight.name)
        if own is None or not found.scaled:
            return found
        energy = output_energy(found.rows, found.moment)
        costs = np.maximum(own, LEAST * own.mean()).reshape(energy.shape) ** of_gradients
        costs *= np.maximum(energy, LEAST_SHARE * energy.mean()) ** -of_energies
        return replace(found, shares=np.square(costs))

    def sample(self: PriceSearch, name: str, layer: Layer, seed: int) -> Sample:
        own = gradients.get(name)
        if own is None:
            return sample_of(self, name, layer, seed)
        changes = layer.trial(seed)
        predicted = float((own * output_energy(changes, layer.moment)).sum())
        return Sample.of(layer, predicted / layer.error(changes), seed)

    with ExitStack() as stack:
        stack.enter_context(patch.object(Place, "layer", layer))
        if by_gradient:
            stack.enter_context(patch.object(PriceSearch, "_sample", sample))
        yield


if __name__ == "__main__":
    main()
