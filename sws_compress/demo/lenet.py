"""LeNet-300-100 (LeCun et al. 1998): two hidden layers, 266,610 parameters, a classic of compression papers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from sws_compress.errors import ModelError


class LeNet300100(nn.Module):
    """Multi-layer perceptron 784-300-100-10 with ReLU.

    It maps pixels in [0, 1], float32 of shape (n, 784), to logits, float32 of shape (n, 10).

    Parameters
    ----------
    dropped : float
        Share of the hidden units that is left out in training (Srivastava et al. 2014).
    """

    def __init__(self, dropped: float = 0.0) -> None:
        super().__init__()
        self.dropped = dropped
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = dropout(torch.relu(self.fc1(pixels)), self.dropped, self.training)
        hidden = dropout(torch.relu(self.fc2(hidden)), self.dropped, self.training)
        logits: Tensor = self.fc3(hidden)
        return logits


def load_lenet(path: Path, dropped: float = 0.0) -> LeNet300100:
    """Load the network.

    Parameters
    ----------
    path : Path
        An .npz file of float32 arrays that are named as in ``state_dict``.
    dropped : float
        Share of the hidden units that is left out in training.

    Raises
    ------
    ModelError
        If the file holds something else.
    """
    model = LeNet300100(dropped)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except Exception as error:  # whatever a file of another kind makes of NumPy, zipfile and torch
        raise ModelError(
            f"{path} must hold the weights of LeNet-300-100, got {type(error).__name__}: "
            "leave --data out, or name a folder that holds it"
        ) from error
    return model
