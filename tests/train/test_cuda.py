"""Training on a GPU: the CPU's results, and no weight copied to the host. Skipped without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sws_compress.train.device_histogram import moment_table
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Stage
from tests.train.digits import TRAINING, Batches, accuracy, trained
from tests.train.test_prior import SCHEDULE

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

LARGEST_COPY = 3 * 4096
"""Numbers that may go to the host at a time: one group's table."""


class HostCopies(TorchDispatchMode):
    """The largest tensor, in elements, that was copied from the GPU to the host."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sources = [each for each in args if isinstance(each, torch.Tensor) and each.is_cuda]
        if sources and isinstance(result, torch.Tensor) and result.device.type == "cpu":
            self.largest = max(self.largest, result.numel())
        return result


@contextmanager
def no_copies_of_weights() -> Iterator[None]:
    with HostCopies() as copies:
        yield
    assert copies.largest <= LARGEST_COPY


def test_histogram_is_that_of_the_kernel() -> None:
    values = torch.from_numpy(np.random.default_rng(0).gamma(1.5, 0.1, 300_001).astype(np.float32))
    wanted = moment_table(values, low=0.0, high=0.9, bins=4096)
    found = moment_table(values.cuda(), low=0.0, high=0.9, bins=4096).cpu()
    assert torch.equal(found[:, 0], wanted[:, 0])
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("fused", [False, True])
def test_whole_run_on_the_gpu(fused: bool) -> None:
    torch.manual_seed(0)
    model = trained().cuda()
    before = accuracy(model.cpu())
    model.cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
    prior = SoftWeightSharing(model, optimizer, components=8, total_steps=60, schedule=SCHEDULE)
    stages = set()
    for pixels, labels in [batch for _ in range(5) for batch in Batches(TRAINING, 100)][:60]:
        optimizer.zero_grad()
        stages.add(prior.stage)
        functional.cross_entropy(model(pixels.cuda()), labels.cuda()).backward()
        optimizer.step()
        with no_copies_of_weights():
            prior.step()
    assert stages == set(Stage)
    palettes = prior.snap()
    for name, parameter in model.named_parameters():
        if name in palettes:
            np.testing.assert_array_equal(parameter.detach().cpu().numpy(), palettes[name].expand())
    assert accuracy(model.cpu()) > before - 10


def test_pull_is_that_of_the_cpu() -> None:
    weights = []
    for device in ("cpu", "cuda"):
        model = trained().to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=device == "cuda")
        prior = SoftWeightSharing(model, optimizer, components=8)
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = (0.01 * torch.randn(parameter.shape, generator=generator)).to(device)
            optimizer.step()
            prior.update()
            prior.step()
        weights.append([parameter.detach().cpu() for parameter in model.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
