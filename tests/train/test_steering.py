"""The size that a run is steered to: bytes of a file, points of a metric, or the price of a bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from sws_compress.errors import ArgumentError
from sws_compress.train.file_sizes import Measured, bits_between
from sws_compress.train.loop import fine_tune
from sws_compress.train.measures import Measures
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.progress import Progress
from sws_compress.train.request import FineTuned
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.settling import SETTLING_MEASUREMENTS
from sws_compress.train.targets import SteeringTarget
from tests.train.digits import TRAINING, Batches, accuracy, trained
from tests.train.runs import KilledError, assert_same

GRAPH = 700
REQUEST = FineTuned(
    train=Batches(TRAINING, 50),
    loss=functional.cross_entropy,
    components=6,
    epochs=8,
    learning_rate=2e-3,
    schedule=Schedule(hard_every=3, soft_every=5),
)


def entropy_bytes(model: nn.Module) -> float:
    """Bytes of the coded matrices, with two bytes for every codebook entry: a file without its graph."""
    total = 0.0
    for weight in (model[0].weight, model[2].weight):
        counts = torch.unique(weight.detach(), return_counts=True)[1].double()
        total += 2 * len(counts) - float((counts * torch.log2(counts / counts.sum())).sum()) / 8
    return total


def file_bytes(model: nn.Module) -> int:
    """Bytes of a file whose coder wastes a tenth, and which has a graph."""
    return round(1.1 * entropy_bytes(model)) + GRAPH


def run(
    model: nn.Module,
    target: SteeringTarget | None,
    request: FineTuned = REQUEST,
    *,
    size: Callable[[], int] | None = None,
    validate: Callable[[], float] | None = None,
    **options: Any,
) -> list[Progress]:
    seen: list[Progress] = []
    measures = Measures(
        file_bytes=size or (lambda: file_bytes(model)),
        least_bytes=GRAPH if size is None else 0,
        validate=validate or (lambda: accuracy(model)),
    )
    fine_tune(model, request, target, measures=measures, on_progress=seen.append, **options)
    return seen


@pytest.mark.parametrize(("wanted", "epochs"), [(950, 6), (1150, 2), (1150, 6), (1400, 2)])
def test_the_file_has_the_bytes_asked_for(wanted: int, epochs: int) -> None:
    model = trained()
    seen = run(model, SteeringTarget(file_bytes=wanted), replace(REQUEST, epochs=epochs))
    assert file_bytes(model) == pytest.approx(wanted, rel=0.03)
    assert seen[-1].projected_bytes == pytest.approx(file_bytes(model), rel=0.03)


@pytest.mark.parametrize("slope", [0.3, 3.0])
def test_files_may_lose_other_bytes_than_their_weights_do(slope: float) -> None:
    """A file loses all weights of a unit that dies; it hardly notices another zero among many."""
    model = trained()
    wanted = round(300 + 400 * slope)
    size = lambda: round(300 + slope * entropy_bytes(model))  # noqa: E731
    run(model, SteeringTarget(file_bytes=wanted), replace(REQUEST, epochs=2), size=size)
    assert 300 + slope * entropy_bytes(model) == pytest.approx(wanted, rel=0.01)


def test_a_file_below_its_entropy_is_taken_to_shrink_in_proportion() -> None:
    """Its other bytes are negative. If they were taken as fixed, the first guess would be twice too large."""
    model = trained()
    guesses: list[float] = []

    def look(prior: SoftWeightSharing) -> None:
        if prior.coded_bits is not None and prior.stage is Stage.HARD:
            guesses.append(prior.size_target.final_bits)

    def size() -> int:
        return round(0.7 * entropy_bytes(model))

    run(model, SteeringTarget(file_bytes=400), size=size, on_step=look)
    assert guesses[0] == pytest.approx(8 * 400 / 0.7, rel=0.05)
    assert max(guesses) < 1.2 * min(guesses)


def test_the_closest_size_stays_where_sizes_jump() -> None:
    """A coder that changes its mind: no price meets the bytes, and the tries scatter around them."""
    model = trained()
    wanted = 1150
    measured: list[int] = []
    left: list[int] = []

    def size() -> int:
        return file_bytes(model) + 150 * (int(entropy_bytes(model)) % 3)

    def jumping() -> int:
        measured.append(size())
        return measured[-1]

    def look(prior: SoftWeightSharing) -> None:
        if prior.stage is Stage.TUNE:
            left.append(abs(size() - wanted))

    target = SteeringTarget(file_bytes=wanted)
    run(model, target, replace(REQUEST, epochs=3), size=jumping, validate=lambda: 0.0, on_step=look)
    tries = [abs(size - wanted) for size in measured[-SETTLING_MEASUREMENTS:]]
    assert left[1] == min(tries) < tries[-1]


def test_bytes_that_no_weights_could_reach_leave_a_network() -> None:
    model = trained()
    run(model, SteeringTarget(file_bytes=GRAPH // 2))
    assert file_bytes(model) > GRAPH
    assert model[0].weight.isfinite().all()


def test_the_metric_falls_by_no_more_than_allowed_and_more_room_gives_a_smaller_file() -> None:
    sizes = []
    for points in (1.0, 8.0):
        model = trained()
        before = accuracy(model)
        seen = run(model, SteeringTarget(metric_drop=points), replace(REQUEST, epochs=16))
        assert accuracy(model) >= before - points
        assert any(progress.metric is not None for progress in seen)
        sizes.append(entropy_bytes(model))
    assert sizes[1] < 0.8 * sizes[0] < 0.8 * 4 * (64 * 32 + 32 * 10) / 8


def test_without_a_metric_the_loss_on_training_data_says_how_small() -> None:
    sizes = []
    for share in (0.02, 0.2):
        model = trained()
        result = fine_tune(model, replace(REQUEST, epochs=16), SteeringTarget(loss_share=share), measures=Measures())
        assert result.allowance_used is not None
        assert 0.5 < result.allowance_used <= 1
        sizes.append(entropy_bytes(model))
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("allowed", [20.0, 60.0])
def test_what_is_left_of_an_allowance_is_used_at_the_end(allowed: float) -> None:
    """A metric of which all sizes are known: it falls with the bytes, and has a tenth back after the tuning."""
    model = trained()
    back = [0.0]

    def validate() -> float:
        return min(entropy_bytes(model), 600.0) / 6 + back[0]

    def look(prior: SoftWeightSharing) -> None:
        back[0] = 10.0 if prior.progress == 1 else 0.0

    run(model, SteeringTarget(metric_drop=allowed), validate=validate, on_step=look)
    assert 0.8 * allowed <= 100 - validate() <= allowed


@pytest.mark.parametrize("lost", [0.0, 5.0])
def test_the_metric_of_the_file_decides_where_it_is_another(lost: float) -> None:
    """Rounding biases costs the file some points that the network does not know of."""
    model = trained()
    measured: list[float] = []

    def validate() -> float:
        return min(entropy_bytes(model), 600.0) / 6

    def of_file() -> float:
        measured.append(validate() - lost * bool(measured))  # the float network, which is measured first, has none
        return measured[-1]

    measures = Measures(validate=validate, validate_file=of_file)
    fine_tune(model, replace(REQUEST, epochs=16), SteeringTarget(metric_drop=40.0), measures=measures)
    assert 60 + lost <= validate() <= 68 + lost


def test_a_loss_that_does_not_tell_what_is_lost_cannot_say_how_small() -> None:
    model = trained()
    with torch.no_grad():
        model[2].weight.mul_(1e-4)
    with pytest.raises(ArgumentError, match="ratio, target_bytes or evaluate must be given for this network, got none"):
        fine_tune(model, REQUEST, SteeringTarget(loss_share=0.01))


def test_a_last_network_that_lost_too_much_gives_way_to_the_smallest_that_did_not() -> None:
    """A metric that breaks down with the first step of codebook tuning."""
    model = trained()
    kept: list[dict[str, torch.Tensor]] = []

    def validate() -> float:
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return 100.0 if len(kept) < 6 else 0.0

    run(model, SteeringTarget(metric_drop=1.0), validate=validate)
    rounded = {name: pytest.approx(value.flatten().tolist(), rel=2**-11) for name, value in model.state_dict().items()}
    assert any(all(rounded[n] == v.flatten().tolist() for n, v in state.items()) for state in kept[1:5])


def test_a_smaller_network_that_lost_no_more_is_preferred_to_the_last() -> None:
    """A metric that breaks down for some epochs, in which the network grows again, and comes back at the end."""
    model = trained()
    measured: list[float] = []

    def validate() -> float:
        measured.append(0.0 if 4 <= len(measured) < 8 else 100.0)
        return measured[-1]

    seen = run(model, SteeringTarget(metric_drop=1.0), validate=validate)
    bits = [progress.coded_bits for progress in seen if progress.coded_bits is not None]
    assert measured[-1] == 100
    assert bits[-1] > 1.1 * min(bits)
    assert 8 * entropy_bytes(model) < 0.95 * bits[-1]


def test_a_metric_that_is_not_finite_counts_as_a_loss() -> None:
    model = trained()
    before = accuracy(model)
    measured: list[float] = []

    def validate() -> float:
        measured.append(accuracy(model))
        return math.nan if len(measured) == 4 else measured[-1]

    seen = run(model, SteeringTarget(metric_drop=3.0), validate=validate)
    assert all(math.isfinite(progress.bit_price or 1.0) for progress in seen)
    assert accuracy(model) >= before - 3.0
    with pytest.raises(ArgumentError, match="metric of the float network must be a finite number, got nan"):
        run(trained(), SteeringTarget(metric_drop=3.0), validate=lambda: math.nan)


def test_bit_price_is_the_price_of_a_bit_at_the_end_of_its_ramp() -> None:
    sizes = []
    for bit_price in (0.02, 0.2):
        model = trained()
        seen = run(model, None, replace(REQUEST, bit_price=bit_price))
        prices = [progress.bit_price for progress in seen if progress.bit_price is not None]
        assert prices == sorted(prices)
        assert prices[-1] == pytest.approx(bit_price)
        sizes.append(entropy_bytes(model))
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    "target", [SteeringTarget(file_bytes=1200), SteeringTarget(metric_drop=3.0), SteeringTarget(loss_share=0.05)]
)
def test_a_run_that_was_killed_goes_on_to_the_same_result(tmp_path: Path, target: SteeringTarget) -> None:
    class Killed(Batches):
        passes = 0

        def __iter__(self) -> Any:
            Killed.passes += 1
            if Killed.passes == 6:
                raise KilledError
            return super().__iter__()

    whole, killed = trained(), trained()
    request = replace(REQUEST, state=tmp_path / "state")
    run(whole, target)
    with pytest.raises(KilledError):
        run(killed, target, replace(request, train=Killed(TRAINING, 50)))
    resumed = trained()
    run(resumed, target, request)
    assert_same(whole, resumed)


def test_the_bits_to_aim_for_are_those_of_the_file_when_it_has_its_bytes() -> None:
    found = Measured(8000.0, 1500, 0.1)
    assert found.bits_at(1500, 300) == pytest.approx(8000)
    assert found.bits_at(1500, 0) == pytest.approx(8000)


@pytest.mark.parametrize(("least", "power"), [(300, 1.0), (300, 0.8), (300, 0.5)])
def test_guesses_of_the_bits_meet_the_bytes_as_files_come_closer(least: int, power: float) -> None:
    """Files whose bytes beyond the smallest one fall with a power of their bits."""

    def measured(bits: float) -> Measured:
        return Measured(bits, round(least + 5000 * (bits / 40000) ** power), 0.1)

    bits, wanted = 40000.0, 1200
    for _ in range(8):
        bits = measured(bits).bits_at(wanted, least)
    assert measured(bits).file_bytes == pytest.approx(wanted, rel=0.02)


def test_a_bracket_shrinks_by_a_tenth_at_least() -> None:
    """Files of 1,000 and 2,000 bytes around the target: the next try is between them, never next to one of them."""
    tried = [Measured(8000.0, 1000, 0.2), Measured(16000.0, 2000, 0.1), Measured(4000.0, 500, 0.3)]
    assert bits_between(tried, 1500) == pytest.approx(12000)
    assert bits_between(tried, 1001) == pytest.approx(8800)
    assert bits_between(tried, 1999) == pytest.approx(15200)
    assert bits_between(tried[:1], 1500) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SteeringTarget(file_bytes=0), "file_bytes must be > 0, got 0"),
        (lambda: SteeringTarget(metric_drop=-1.0), "metric_drop must be > 0, got -1"),
        (lambda: SteeringTarget(metric_drop=math.nan), "metric_drop must be > 0, got nan"),
        (lambda: SteeringTarget(coded_ratio=1.0), "coded_ratio must be > 1, got 1"),
        (lambda: SteeringTarget(file_bytes=1, metric_drop=1.0), "one of .*, got file_bytes, metric_drop: give one"),
        (lambda: SteeringTarget(), "one of file_bytes, metric_drop, loss_share, coded_ratio, got none"),
        (lambda: replace(REQUEST, bit_price=math.nan), "bit_price must be > 0, got nan"),
        (lambda: fine_tune(trained(), REQUEST, SteeringTarget(file_bytes=100)), "file_bytes must come with a measure"),
        (lambda: fine_tune(trained(), REQUEST, SteeringTarget(metric_drop=1.0)), "metric_drop must come with a metric"),
        (
            lambda: fine_tune(trained(), replace(REQUEST, bit_price=0.1), SteeringTarget(coded_ratio=9)),
            "bit_price must be left out where a size is asked for",
        ),
    ],
)
def test_refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
