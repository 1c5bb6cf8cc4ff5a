"""LoRA and AdaLoRA adapters (from `peft`) on the transformer blocks of an image encoder.

The encoder's own weights stay frozen during tuning.
"""

import json
from pathlib import Path
from typing import Any, cast

import torch

from elite_pipeline.config import Peft
from elite_pipeline.teacher.encoders import StageEncoder


def attach(encoder: StageEncoder, settings: Peft, steps: int) -> StageEncoder:
    """Freeze `encoder` and put adapters on its blocks.

    steps: number of optimiser steps of the whole run. AdaLoRA's rank schedule depends on it: ranks are fixed for the
    first sixth and the last half of the steps, as in ELiTe's code.

    Returns the frozen encoder itself for method `none`. For other methods it returns peft's wrapper, which has the
    attributes of a `StageEncoder`.
    """
    encoder.requires_grad_(False)
    if settings.method == "none":
        return encoder
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    assert settings.targets is not None
    assert settings.rank is not None
    # peft matches a regular expression against whole module paths. Plain names would also match other modules.
    paths = "|".join(encoder.encoder.adapter_paths[target] for target in settings.targets)
    common: dict[str, Any] = {"target_modules": rf"encoder\.({paths})", "lora_alpha": settings.alpha}
    if settings.method == "lora":
        return cast(StageEncoder, get_peft_model(encoder, LoraConfig(r=settings.rank, **common)))
    assert settings.initial_rank is not None
    assert settings.orthogonality is not None
    config = AdaLoraConfig(
        target_r=settings.rank,
        init_r=settings.initial_rank,
        total_step=steps,
        tinit=steps // 6,
        tfinal=steps // 2,
        deltaT=max(1, steps // 300),
        orth_reg_weight=settings.orthogonality,
        **common,
    )
    return cast(StageEncoder, get_peft_model(encoder, config))


def orthogonality(encoder: StageEncoder, settings: Peft) -> torch.Tensor | float:
    """AdaLoRA's regularisation loss; 0 for other methods.

    The loss measures how far the singular vectors are from orthonormal, multiplied by `settings.orthogonality`. `peft`
    adds this loss only to models that return a loss themselves.
    """
    if settings.method != "adalora":
        return 0.0
    gaps = [
        torch.linalg.norm((p @ p.T if "lora_A" in name else p.T @ p) - torch.eye(min(p.shape), device=p.device))
        for name, p in encoder.named_parameters()
        if "lora_A" in name or "lora_B" in name
    ]
    assert settings.orthogonality is not None
    return settings.orthogonality * torch.stack(gaps).mean()


def allocate_ranks(encoder: StageEncoder, settings: Peft, step: int) -> None:
    """Move ranks between the adapted modules, as AdaLoRA does after each step; do nothing for other methods.

    Call it after the optimiser's step and before the gradients are cleared.
    """
    if settings.method != "adalora":
        return
    assert settings.initial_rank is not None
    assert settings.rank is not None
    # peft raises an error if there is nothing to prune.
    if settings.initial_rank > settings.rank:
        adapted: Any = encoder
        adapted.base_model.update_and_allocate(step)


def allocator_state(encoder: StageEncoder, settings: Peft) -> dict[str, Any] | None:
    """The state that AdaLoRA keeps between steps in addition to its weights; None for other methods."""
    if settings.method != "adalora":
        return None
    adapted: Any = encoder
    allocator = adapted.base_model.rankallocator
    pattern = adapted.peft_config["default"].rank_pattern
    return {"memory": [allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc], "rank_pattern": pattern}


def restore_allocator(encoder: StageEncoder, state: dict[str, Any] | None) -> None:
    """Restore the state that `allocator_state` returned; do nothing for None."""
    if state is not None:
        adapted: Any = encoder
        allocator = adapted.base_model.rankallocator
        allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc = state["memory"]
        adapted.peft_config["default"].rank_pattern = state["rank_pattern"]


def merge(encoder: StageEncoder, folder: Path) -> StageEncoder:
    """Add the adapter in `folder` to the weights of `encoder`, which has no adapter yet, and return `encoder`.

    `save_pretrained` wrote the adapter. If `folder` holds none, `encoder` is returned unchanged.

    The result is the same as that of `PeftModel.from_pretrained(encoder, folder).merge_and_unload()`. It avoids
    importing peft, which would cost 10 CPU seconds in every job that only runs a teacher.
    """
    path = Path(folder) / "adapter_config.json"
    if not path.exists():
        return encoder
    from safetensors.torch import load_file

    config = json.loads(path.read_text())
    weights = load_file(path.with_name("adapter_model.safetensors"))
    weights = {name.removesuffix(".weight"): value for name, value in weights.items()}
    modules: dict[str, Any] = dict(encoder.named_modules())
    with torch.no_grad():
        for name in weights:
            if name.endswith(".lora_A"):
                a, b = weights[name], weights[name.replace("lora_A", "lora_B")]
                if config["peft_type"] == "ADALORA":
                    # AdaLoRA divides its scale by the initial rank, even after ranks were pruned.
                    a, rank = a * weights[name.replace("lora_A", "lora_E")], config["init_r"] + 1e-5
                else:
                    rank = config["r"]
                target = modules[name.removeprefix("base_model.model.").removesuffix(".lora_A")]
                target.weight += (b @ a) * (config["lora_alpha"] / rank)
    return encoder
