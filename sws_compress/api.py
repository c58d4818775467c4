"""The whole way in one call each: compress, export, verify, inspect."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sws_compress.codec.load_cost import LoadCost
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.files import AnyPath, checked_output
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, whole_file
from sws_compress.ort.compare import difference
from sws_compress.ort.user_models import Feeds, answers, check_same_interface, feeds_for, open_model
from sws_compress.pipelines.fine_tuned import Wanted, arguments, compress_module, refuse_other_float
from sws_compress.pipelines.inspect import inspect_model
from sws_compress.pipelines.low_bit import LowBitRuntime, quantize_file
from sws_compress.pipelines.publish import Embeddings, Packing, dense_onnx, packed_rows, ship_module
from sws_compress.pipelines.watch import OnProgress, watching
from sws_compress.pipelines.weights_only import compress_file
from sws_compress.quantize.granularity import Best, Granularity, PerChannel, PerTensor, Vectors
from sws_compress.quantize.palette import Palette, check_components
from sws_compress.report.result import CompressionResult, Inspection, Verification
from sws_compress.train.request import Log

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.train.distillation import Distillation
    from sws_compress.train.request import Loss
    from sws_compress.train.schedule import Schedule
    from sws_compress.train.select import Selection
    from sws_compress.train.sharing import Sharing


def compress(
    model: nn.Module | AnyPath,
    output: AnyPath,
    *,
    components: int = 16,
    scales: Literal["tensor", "channel", "auto"] = "tensor",
    vector: int = 1,
    runtime: LowBitRuntime | None = None,
    load_budget: LoadCost | None = None,
    weight_names: bool = True,
    embeddings: Embeddings = "decoded",
    train: Iterable[Any] | None = None,
    loss: Loss | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    example_inputs: Any = None,
    ratio: float | None = None,
    target_bytes: int | None = None,
    max_drop: float | None = None,
    strength: float | None = None,
    vectors: int | None = 254,
    prune_units: bool = True,
    epochs: int = 20,
    learning_rate: float = 7e-4,
    distillation: Distillation | None = None,
    schedule: Schedule | None = None,
    parameters: Selection | None = None,
    sharing: Sharing | None = None,
    bfloat16: bool = False,
    state: AnyPath | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    log: Log | None = None,
    frames: AnyPath | None = None,
) -> CompressionResult:
    """Make ``model`` small and write it to ``output`` as an ONNX file of standard operators.

    model           a torch module, or the path of an ONNX file (clustered from its weights alone)
    components      distinct values per tensor, 2..256
    scales          ONNX files: "channel" gives every output channel of a tensor a factor beside the codebook; "auto"
                    does where the file needs fewer bytes for the same error in the weights
    vector          ONNX files: so many consecutive weights, 1, 2, 4 or 8, share an index: ``components`` are rows then
    runtime         None: the smallest file, decoded to float32 at load. "int4" or "int8" (ONNX files): matrices that
                    ONNX Runtime keeps and multiplies in so many bits (com.microsoft.MatMulNBits), one scale and zero
                    point a block of 32; a larger file, less memory; ``components`` are not used
    load_budget     what loading the file may cost on one thread, beyond what the runtime needs anyway:
                    ``sws_compress.LoadCost(seconds=2, peak_bytes=300e6)``, for example. Encodings that are estimated to
                    take more than their share are not used; where none is left, the fastest is. By default half a
                    second and 64 MB, and for every million weights 0.17 s and 47 MB more
    embeddings      "packed": tables that nothing but Gather reads, row by row, stay packed while the model runs, and
                    every look-up decodes the rows it asks for: a seventh of the memory with 16 components, faster
                    loading, slower look-ups, and words of a fixed length in the file, which take more bytes than
                    codes where values are not equally frequent. The result has a note for every table that cannot
                    stay packed, such as one that is the output layer as well. "decoded": like all other weights
    weight_names    False leaves the names of weights out of the file, which makes out some percent of one that is very
                    small or very deep; the result still tells them
    example_inputs  module: positional arguments of one call, for the export (a lone tensor needs no tuple; two rows or
                    more, for a free batch dimension); by default the first rows of ``train``
                    ONNX file: arrays by input name, or an .npz of them, for the check; by default random
    seed            of training, and of random inputs

    For a torch module:

    train           sized iterable of (inputs, targets) batches, or of inputs alone without ``loss``; None clusters the
                    weights without data
    loss            ``loss(outputs, targets)``, for example torch.nn.functional.cross_entropy
    evaluate        metric of a module, higher is better, called in evaluation mode: measured before and after, in
                    training also after every epoch from the hard stage on. Measure on data that neither training nor
                    your report uses
    parameters      which parameters, ``sharing`` how they share mixtures; see ``train.select``
    prune_units     leave hidden units and channels out of the file that nothing reads or that are always zero, and
                    biases that are all zero: smaller and faster, with the same outputs. False keeps the shapes of all
                    weights

    For training:

    ratio           how many times smaller than the plain ONNX file the file shall be (20 if nothing else is asked for),
    target_bytes    or how many bytes it shall have: met within 3 %, else the result has a note;
    max_drop        or by how much the metric may fall: the smallest file that the run finds;
    strength        or the price of a bit itself, for experts: see ``train.steering.Goal``
    vectors         distinct values, 2..256, for the biases and norms that ``parameters`` leaves out, those of one last
                    name together (``bias``, ``weight``); batch norms are folded into their scale and shift first. None
                    keeps them in float32. 254 leaves a byte's other two values to the means and variances of folded
                    norms, which are zeros and ones
    bfloat16        train under torch.autocast: faster where the processor has it; the file is float32 all the same
    epochs          length of the whole run, ``learning_rate`` of Adam at its start, ``schedule`` how it tightens
    distillation    a teacher, by default the float network; see ``Distillation``
    state           file that the training state is saved to after every epoch; a run that finds one goes on from it
    log             .csv or .jsonl file, or folder for TensorBoard, that gets loss, metric and sizes as the run goes;
                    or a function, which gets ``train.loop.Progress``; see ``watching``
    frames          .gif file for an animation of the weights gathering into clusters

    ``on_progress(description, done, total)`` is called as the work goes, in training after every step.

    The module that is passed in stays as it is; the compressed one is in the result. Nothing is written unless the file
    passes: the ONNX checker and ONNX Runtime take it, every decoded weight equals the snapped one bit for bit, outputs
    agree on example inputs, and it is smaller than the plain model. ONNX files with more than 256 MiB of weights are
    streamed: coded by radix words, which load fastest, and checked weight by weight, without running the network.
    Raises SwsError (see ``sws_compress.errors``).
    """
    target = checked_output(output)
    _check_seed(seed)
    started = time.perf_counter()
    wanted = Wanted(ratio=ratio, target_bytes=target_bytes, max_drop=max_drop, strength=strength)
    for_training = {"loss": loss, **vars(wanted), "distillation": distillation, "schedule": schedule}
    for_training |= {"state": state, "log": log, "frames": frames}
    training_given = {name: value is not None for name, value in for_training.items()}
    forms_given = {"scales": scales != "tensor", "vector": vector != 1}
    check_components(components)
    granularity = _granularity(scales, vector)
    packing = Packing(
        load_limit=load_budget,
        weight_names=weight_names,
        packed_rows=packed_rows(embeddings),
        prune_units=prune_units,
    )
    if isinstance(model, str | os.PathLike):
        modules = {"train": train, "evaluate": evaluate, "parameters": parameters}
        modules_given = {name: value is not None for name, value in modules.items()}
        _refuse("for an ONNX file", "pass the torch module to train it", modules_given | training_given)
        if runtime is not None:
            _refuse("with runtime", "nothing is decoded at load", {"load_budget": load_budget is not None})
            _refuse("with runtime", "they stay in 8 bits anyway", {"embeddings": packing.packed_rows})
            _refuse("with runtime", "it has a form of its own", {**forms_given, "weight_names": not weight_names})
            return quantize_file(Path(model), target, runtime, example_inputs, seed, on_progress, started)
        return compress_file(
            Path(model), target, components, granularity, example_inputs, seed, on_progress, started, packing=packing
        )
    _refuse("for a torch module", "export it and compress the file", {**forms_given, "runtime": runtime is not None})
    if train is None:
        _refuse("without train", "pass train= batches", training_given)
    from torch import nn

    from sws_compress.train.request import FineTuned
    from sws_compress.train.schedule import Schedule
    from sws_compress.train.sharing import Sharing

    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"model must be a torch module or the path of an ONNX file, got {type(model).__name__}: pass one of them"
        )
    request = None
    if train is not None:
        request = FineTuned(
            train=train,
            loss=loss,
            components=components,
            epochs=epochs,
            learning_rate=learning_rate,
            distillation=distillation,
            schedule=schedule or Schedule(),
            parameters=parameters,
            sharing=sharing or Sharing.TENSOR,
            bfloat16=bfloat16,
            bias_components=vectors,
            bit_price=strength,
            state=state,
            log=log,
            frames=frames,
        )
    with watching(on_progress, log, frames) as watch:
        return compress_module(
            model,
            target,
            request,
            wanted,
            components=components,
            parameters=parameters,
            sharing=sharing or Sharing.TENSOR,
            seed=seed,
            evaluate=evaluate,
            example_inputs=example_inputs,
            watch=watch,
            packing=packing,
        )


def _refuse(case: str, cure: str, given: Mapping[str, bool]) -> None:
    """ArgumentError that names the arguments that are ``given``, if any are."""
    names = [name for name, is_given in given.items() if is_given]
    if names:
        number = "it" if len(names) == 1 else "them"
        raise ArgumentError(f"{', '.join(names)} must be left out {case}, got {number}: {cure}")


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ArgumentError(f"seed must be >= 0, got {seed}: any whole number will do")


def _granularity(scales: str, vector: int) -> Granularity:
    of_scales: dict[str, Granularity] = {"tensor": PerTensor(), "channel": PerChannel(), "auto": Best()}
    if scales not in of_scales:
        raise ArgumentError(f"scales must be tensor, channel or auto, got {scales!r}: choose one of them")
    if vector > 1 and scales != "tensor":
        raise ArgumentError(f"scales must be tensor with vectors, got {scales!r}: leave one of the two out")
    return of_scales[scales] if vector == 1 else Vectors(vector)


def export(
    model: nn.Module,
    palettes: Mapping[str, Palette],
    output: AnyPath,
    *,
    example_inputs: Any,
    embeddings: Embeddings = "decoded",
    prune_units: bool = True,
) -> CompressionResult:
    """Write a snapped torch module, for example after ``SoftWeightSharing.snap``, as a small ONNX file.

    ``palettes`` by parameter name are what the parameters must hold, bit for bit (ModelError if one does not);
    ``example_inputs`` are the positional arguments of one call (a lone tensor needs no tuple; two rows or more, for a
    free batch dimension), ``embeddings`` and ``prune_units`` are as for ``compress``. Checked and written as by
    ``compress``.
    """
    target = checked_output(output)
    packing = Packing(packed_rows=packed_rows(embeddings), prune_units=prune_units)
    started = time.perf_counter()
    from sws_compress.train.select import plain_name

    parameters = {plain_name(name): parameter for name, parameter in model.named_parameters(remove_duplicate=False)}
    for name, palette in palettes.items():
        if name not in parameters:
            raise ArgumentError(
                f"palettes must name parameters of the model, got {name!r}: pass the module it came from"
            )
        refuse_other_float(name, parameters[name])
        held = parameters[name].detach().cpu().numpy()
        if not np.array_equal(held.view(np.uint32), palette.expand().view(np.uint32)):
            raise ModelError(f"{name} must hold the values of its palette, got others: export right after snap()")
    examples = arguments(example_inputs)
    shipped = ship_module(model, target, examples, dense_bytes=len(dense_onnx(model, examples)), packing=packing)
    return CompressionResult(**vars(shipped), seconds=time.perf_counter() - started, network=model)


def verify(
    original: AnyPath,
    compressed: AnyPath,
    *,
    inputs: AnyPath | Feeds | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Verification:
    """Compare the outputs of two models in ONNX Runtime on ``inputs`` (arrays by input name, or an .npz of them) or on
    random ones; ``tolerance`` is relative to the largest value of each output of the original.

    Raises ModelError when one of them is no model or has other inputs or outputs, DataError when the inputs do not
    fit, VerificationError when an output has another shape.
    """
    if not tolerance >= 0:
        raise ArgumentError(f"tolerance must be >= 0, got {tolerance}: 0.1 allows a tenth of the largest output")
    _check_seed(seed)
    first, second = Path(original), Path(compressed)
    for path in (first, second):
        read_model(path)
    reference, candidate = open_model(first), open_model(second)
    check_same_interface(reference, candidate)
    feeds = feeds_for(reference, inputs, seed=seed)
    expected = answers(reference, first, feeds, given=inputs is not None)
    actual = answers(candidate, second, feeds, given=inputs is not None)
    names = [output.name for output in reference.get_outputs()]
    outputs = tuple(map(difference, names, expected, actual))
    return Verification(first, second, bytes_on_disk(first), bytes_on_disk(second), outputs, tolerance)


def inspect(path: AnyPath) -> Inspection:
    """What the model file at ``path`` is made of, compressed or not."""
    file = Path(path)
    data = whole_file(file)
    return Inspection(file, bytes_on_disk(file), inspect_model(data))
