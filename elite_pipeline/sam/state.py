"""Read, check and write files with the weights of image networks.

Reading never runs code from a file. Every key is checked.
"""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from elite_pipeline.errors import InputError


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict in a `.safetensors` or `.pth` file.

    A `.pth` file may also hold it under the key "state_dict", as training code often writes it. Raises `InputError`
    where the file holds no state dict, or where loading it would run code.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} holds no plain weights ({reason}). Download it again; a file that contains code is never loaded."
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no state dict (names -> tensors). Use a file that holds only weights.")
    return state


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path, encoder: str) -> None:
    """Load `state`, read from `path`, into `module`.

    Raises `InputError` with a list of the faults where the state does not fit `encoder`.
    """
    expected = module.state_dict()
    faults = [f"missing {key}" for key in sorted(expected.keys() - state.keys())]
    faults += [f"unexpected {key}" for key in sorted(state.keys() - expected.keys())]
    faults += [
        f"{key} is {tuple(state[key].shape)}, {encoder} has {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & state.keys())
        if state[key].shape != expected[key].shape
    ]
    if faults:
        shown = "\n  ".join([*faults[:10], *([f"and {len(faults) - 10} more"] if len(faults) > 10 else [])])
        raise InputError(f"{path} does not hold the weights of {encoder}:\n  {shown}")
    module.load_state_dict(state)


def save_sam(sam: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights of `sam` to `path` in float16, with `metadata` in the file's header."""
    weights = sam.state_dict().items()
    state = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in weights}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(safetensors.torch.save(state, metadata))
    os.replace(partial, path)
