"""Several processes give what one process gives, with the same batches in the same order.

Tolerance: the same assignments, and means within 1e-6 (weights are of order 0.1 to 1). Gradients of a batch are summed
in another order, so that float32 roundings differ; nothing else may.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import sws_compress as sws
from sws_compress.integrations.transformers import STATE_FILE
from tests.ranks import scenarios
from tests.ranks.scenarios import OPTIONS, Outcome, outcome
from tests.ranks.spawned import Network, Run, batch, on_ranks

TOLERANCE = 1e-6
LAYOUTS = ("ddp", "fsdp")
CASES = [(layout, kind) for layout in LAYOUTS for kind in OPTIONS]


@cache
def alone(kind: str) -> Outcome:
    return outcome("plain", kind)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one process, halfway."""
    path = tmp_path_factory.mktemp("checkpoint") / "one.pt"
    outcome("plain", "adam", save=path)
    return path


Results = dict[tuple[str, ...], list[Outcome]]


def all_runs(count: int, folder: Path, checkpoint: Path) -> Results:
    """Results of every rank, by case. Sharded Adam is saved halfway, and also goes on from the file of one process."""
    cases = [(*case, None, folder / f"{'-'.join(case)}.pt") for case in CASES]
    cases += [(layout, "adam", checkpoint) for layout in LAYOUTS]
    results = on_ranks(count, scenarios.outcomes, folder, cases)
    names = [*CASES, *((layout, "adam", "resumed") for layout in LAYOUTS)]
    assert all(isinstance(result, list) for result in results), results
    return {name: list(found) for name, found in zip(names, zip(*results, strict=True), strict=True)}


@pytest.fixture(scope="module")
def two_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(two_folder: Path, checkpoint: Path) -> Results:
    return all_runs(2, two_folder, checkpoint)


def assert_equal(found: Outcome, wanted: Outcome) -> None:
    for bits, wanted_bits in zip(found.coded_bits, wanted.coded_bits[-len(found.coded_bits) :], strict=True):
        assert bits == (None if wanted_bits is None else pytest.approx(wanted_bits))
    for name, mixture in wanted.mixtures.items():
        np.testing.assert_allclose(found.mixtures[name].means, mixture.means, atol=TOLERANCE)
        np.testing.assert_allclose(found.mixtures[name].weights, mixture.weights, rtol=1e-6)
        np.testing.assert_allclose(found.mixtures[name].variances, mixture.variances, rtol=1e-3, atol=1e-8)
    for name, histogram in wanted.histograms.items():
        assert found.histograms[name].count == histogram.count
        np.testing.assert_allclose(
            found.histograms[name].counts, histogram.counts, atol=2
        )  # weights at the edge of a bin
    for name, weight in wanted.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=0, atol=10 * TOLERANCE)
    for name, palette in found.palettes.items():
        np.testing.assert_array_equal(palette.indices, wanted.palettes[name].indices)
        np.testing.assert_allclose(palette.codebook, wanted.palettes[name].codebook, atol=TOLERANCE)


def assert_same_on_all_ranks(ranks: list[Outcome]) -> None:
    first = ranks[0]
    for other in ranks[1:]:
        assert other.coded_bits == first.coded_bits
        for name, mixture in first.mixtures.items():
            np.testing.assert_array_equal(other.mixtures[name].means, mixture.means)
            np.testing.assert_array_equal(other.mixtures[name].weights, mixture.weights)
            np.testing.assert_array_equal(other.mixtures[name].variances, mixture.variances)
        for name, histogram in first.histograms.items():
            np.testing.assert_array_equal(other.histograms[name].counts, histogram.counts)
        for name, weight in first.weights.items():
            assert torch.equal(other.weights[name], weight)


@pytest.mark.parametrize("kind", OPTIONS)
def test_runs_are_worth_comparing(kind: str) -> None:
    """They have all stages, a size that the price pushes down, and codebooks in use."""
    bits = alone(kind).coded_bits
    assert bits[0] is None
    assert bits[-1] < 0.9 * max(each for each in bits if each is not None)
    assert all(len(palette.codebook) >= 3 for palette in alone(kind).palettes.values())


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_as_good_as_one(two: Results, case: tuple[str, str]) -> None:
    assert_equal(two[case][0], alone(case[1]))
    assert_same_on_all_ranks(two[case])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_go_on_where_one_stopped(two: Results, layout: str) -> None:
    assert_equal(two[layout, "adam", "resumed"][0], alone("adam"))


@pytest.mark.parametrize("case", CASES)
def test_one_goes_on_where_two_stopped(two: Results, two_folder: Path, case: tuple[str, str]) -> None:
    assert two  # the checkpoint is theirs
    found = outcome("plain", case[1], load=two_folder / f"{'-'.join(case)}.pt")
    assert len(found.coded_bits) == scenarios.STEPS - scenarios.HALFWAY
    assert_equal(found, alone(case[1]))


@pytest.mark.parametrize("case", CASES)
def test_palettes_are_what_the_network_holds_and_answers_with(two: Results, case: tuple[str, str]) -> None:
    """Sharded, they are on the first rank alone; replicated, on every one."""
    first, second = two[case]
    assert second.palettes.keys() == (set() if case[0] == "fsdp" else first.palettes.keys())
    for found in (first, second):
        for name, palette in found.palettes.items():
            np.testing.assert_array_equal(palette.expand(), found.weights[name].numpy())
        network = Network()
        network.load_state_dict(found.weights)
        torch.testing.assert_close(found.answers, network(batch(0)[0]).detach(), rtol=0, atol=1e-5)


def test_sharded_training_is_exported_from_the_first_rank(two: Results, tmp_path: Path) -> None:
    found = two["fsdp", "adam"][0]
    network = Network()
    network.load_state_dict(found.weights)
    path = tmp_path / "small.onnx"
    sws.export(network, found.palettes, path, example_inputs=batch(0)[0])
    session = onnxruntime.InferenceSession(path)
    (answers,) = session.run(None, {session.get_inputs()[0].name: batch(0)[0].numpy()})
    np.testing.assert_allclose(answers, found.answers, atol=1e-5)


def test_what_ranks_refuse(tmp_path: Path) -> None:
    flattened = (
        "{} must keep its parameters as tensors of rows, got FullyShardedDataParallel, which cuts them anywhere: "
        "use torch.distributed.fsdp.fully_shard"
    )
    unequal = (
        "compressed parameters must have the same names, shapes and groups on all ranks, got {} weights: "
        "build the same network and pass the same parameters= on every rank"
    )
    said = on_ranks(2, scenarios.refusals, tmp_path)
    assert said[0] == said[1]
    assert said[0] == {
        "columns": "weight must be sharded once, on dimension 0, got (Shard(dim=1),): "
        "use fully_shard without tensor parallelism and without shard_placement_fn",
        "alone": "0.weight must be whole here, got a shard on 2 ranks: "
        "use SoftWeightSharing in a loop that all ranks run",
        "local": "accepted",
        "flattened": flattened.format("model"),
        "inside": flattened.format("0"),
        "other names": unequal.format("1 to 2 tensors of 520 to 740"),
        "other shapes": unequal.format("1 to 1 tensors of 600 to 630"),
        "none": unequal.format("0 to 1 tensors of 0 to 600"),
        "start": "0.weight must hold finite values, got 1 NaN or infinite of 740: "
        "train the network again or repair the checkpoint",
        "training": "2.weight must stay finite in training, got NaN or infinite weights: "
        "lower the learning rate and go on from the last saved state",
    }


@pytest.mark.parametrize(("layout", "at"), [pytest.param("ddp", 14, marks=pytest.mark.slow), ("fsdp", 47)])
def test_lost_rank_ends_the_run_in_one_line_and_the_checkpoint_goes_on(layout: str, at: int, tmp_path: Path) -> None:
    said = on_ranks(2, scenarios.killed, tmp_path, tmp_path, layout, at)
    assert said[1] is None
    assert isinstance(said[0], str), said[0]
    assert said[0].startswith("rank 0 of 2 must reach all others, got none from at least one of them (")
    assert said[0].endswith(
        f"): start again from the checkpoint {tmp_path / 'run.pt'}, with as many processes as there are"
    )
    assert "\n" not in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    found = outcome("plain", "adam", load=tmp_path / "run.pt")
    assert len(found.coded_bits) == scenarios.STEPS - at // 10 * 10
    assert_equal(found, alone("adam"))


def test_trainers_save_sharded_training_on_all_ranks(tmp_path: Path) -> None:
    assert on_ranks(2, scenarios.saved_by_callbacks, tmp_path, tmp_path) == [True, False]
    saved = torch.load(tmp_path / f"checkpoint-{scenarios.HALFWAY}" / STATE_FILE, weights_only=True)
    run = Run("plain")
    run.prior.load_state_dict(saved["prior"])
    assert run.prior.steps == scenarios.HALFWAY
    assert run.prior.coded_bits == pytest.approx(alone("adam").coded_bits[scenarios.HALFWAY - 1])


@pytest.mark.slow
def test_four_processes(tmp_path: Path, checkpoint: Path) -> None:
    """Of the last layer's three rows the fourth rank has none."""
    four = all_runs(4, tmp_path, checkpoint)
    for case, ranks in four.items():
        assert_equal(ranks[0], alone(case[1]))
        assert_same_on_all_ranks(ranks)
    for case in CASES:
        assert_equal(outcome("plain", case[1], load=tmp_path / f"{'-'.join(case)}.pt"), alone(case[1]))
    cases = [("ddp", "adam", tmp_path / "fsdp-adam.pt"), ("fsdp", "adam", tmp_path / "ddp-adam.pt")]
    for ranks in zip(*on_ranks(2, scenarios.outcomes, tmp_path, cases), strict=True):  # four went, two go on
        assert_equal(ranks[0], alone("adam"))


@pytest.mark.slow
def test_replicas_of_shards_are_counted_once(tmp_path: Path) -> None:
    sizes = [float(parameter.numel()) for name, parameter in Network().named_parameters() if name.endswith("weight")]
    found = on_ranks(4, scenarios.replicated_shards, tmp_path)
    assert found == [sizes[:2]] * 4  # the last layer is too small to be selected


def test_checkpoint_of_another_run_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    run = Run("plain", total_steps=7)
    with pytest.raises(sws.ArgumentError, match=r"one.pt cannot be resumed: total_steps must be 60"):
        sws.load_checkpoint(checkpoint, run.model, run.optimizer, run.prior)
    (tmp_path / "x.pt").write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(sws.ArgumentError, match=r"must be a checkpoint of this run, got damaged or other bytes"):
        sws.load_checkpoint(tmp_path / "x.pt", run.model, run.optimizer, run.prior)
