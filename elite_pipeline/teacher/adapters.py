"""LoRA and AdaLoRA on the transformer blocks of an image encoder, by `peft`; the encoder's own weights never change."""

import json
from pathlib import Path

import torch


def attach(encoder, settings, steps):
    """Freeze `encoder` (an `encoders.StageEncoder`) and put adapters on its blocks.

    settings: a `config.Peft`; with method `none` the frozen encoder itself is returned. steps: optimiser steps to come,
    on which AdaLoRA's schedule of ranks depends (fixed for the first sixth and the last half, as in ELiTe's code).
    """
    encoder.requires_grad_(False)
    if settings.method == "none":
        return encoder
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    # A regular expression is matched against whole module paths; plain names would also match other parts.
    paths = "|".join(encoder.encoder.adapter_paths[target] for target in settings.targets)
    common = {"target_modules": rf"encoder\.({paths})", "lora_alpha": settings.alpha}
    if settings.method == "lora":
        return get_peft_model(encoder, LoraConfig(r=settings.rank, **common))
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
    return get_peft_model(encoder, config)


def orthogonality(encoder, settings):
    """AdaLoRA's regulariser: how far its singular vectors are from orthonormal, times its weight; 0 for other methods.

    `peft` adds it only to models that return a loss themselves.
    """
    if settings.method != "adalora":
        return 0.0
    gaps = [
        torch.linalg.norm((p @ p.T if "lora_A" in name else p.T @ p) - torch.eye(min(p.shape), device=p.device))
        for name, p in encoder.named_parameters()
        if "lora_A" in name or "lora_B" in name
    ]
    return settings.orthogonality * torch.stack(gaps).mean()


def allocate_ranks(encoder, settings, step):
    """AdaLoRA's move of ranks between modules: after the optimiser's step, before the gradients are cleared."""
    # peft fails where there is nothing to prune.
    if settings.method == "adalora" and settings.initial_rank > settings.rank:
        encoder.base_model.update_and_allocate(step)


def allocator_state(encoder, settings):
    """What AdaLoRA remembers between steps beside its weights; None for other methods."""
    if settings.method != "adalora":
        return None
    allocator = encoder.base_model.rankallocator
    pattern = encoder.peft_config["default"].rank_pattern
    return {"memory": [allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc], "rank_pattern": pattern}


def restore_allocator(encoder, state):
    """Inverse of `allocator_state`."""
    if state is not None:
        allocator = encoder.base_model.rankallocator
        allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc = state["memory"]
        encoder.peft_config["default"].rank_pattern = state["rank_pattern"]


def merge(encoder, folder):
    """Add the adapter that `save_pretrained` left in `folder`, if any, to the weights of a bare `encoder`.

    The same as `PeftModel.from_pretrained(encoder, folder).merge_and_unload()`, without the 10 CPU seconds that
    importing peft costs every job that only runs a teacher.
    """
    path = Path(folder) / "adapter_config.json"
    if not path.exists():
        return encoder
    from safetensors.torch import load_file

    config = json.loads(path.read_text())
    weights = load_file(path.with_name("adapter_model.safetensors"))
    weights = {name.removesuffix(".weight"): value for name, value in weights.items()}
    modules = dict(encoder.named_modules())
    with torch.no_grad():
        for name in weights:
            if name.endswith(".lora_A"):
                a, b = weights[name], weights[name.replace("lora_A", "lora_B")]
                if config["peft_type"] == "ADALORA":
                    # Its scale is divided by the initial rank, however many ranks were pruned since.
                    a, rank = a * weights[name.replace("lora_A", "lora_E")], config["init_r"] + 1e-5
                else:
                    rank = config["r"]
                target = modules[name.removeprefix("base_model.model.").removesuffix(".lora_A")]
                target.weight += (b @ a) * (config["lora_alpha"] / rank)
    return encoder
