"""The optimiser and its schedules: AdamW, linear warm-up, then a cosine or a plateau and a decay."""

from __future__ import annotations

import math

import torch
from torch import nn

from ecgscale.runs import Recipe


def adamw(module: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return a fused AdamW over the trainable parameters; weight decay on tensors of two or more dimensions only.

    Source: Loshchilov & Hutter 2019; no decay on biases and norms as in HeartLang's training (recipe-scaling §5).
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), fused=True
    )


def rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of step `step` (0-based): lr·(step+1)/warmup, then what the schedule says.

    "cosine" is half a cosine from lr to final·lr; "wsd" stays at lr, and in its last `decay` steps falls by √progress.

    Source: Hägele et al. 2024, arXiv:2405.18392, for the shape of the decay.
    """
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    if recipe.fork is None:
        progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
        share = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        share = 1 - math.sqrt(max(0, step - recipe.fork) / max(1, recipe.decay))
    return recipe.lr * (recipe.final + (1 - recipe.final) * share)
