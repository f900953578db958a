"""The recipe of a network that no task was calibrated for."""

from __future__ import annotations

from training.recipe import Plan, Polish, Recipe

_SWEEPS = 4
_PARTS = 8
_NEVER = (0.0, *(1.0,) * (_PARTS + 1 + _SWEEPS))

DEFAULT_RECIPE = Recipe(
    plans=(Plan(min_work=0, samples=150_000, parts=_PARTS, allowances=_NEVER),),
    headers=1,
    networks=1,
    waiting=0.0,
    batch=64,
    weight_rate=0.4,
    normalisation_rate=0.04,
    betas=(0.5, 0.9),
    warm_up=0.3,
    label_smoothing=0.1,
    gain=0.15,
    shift=0.0,
    logit_scale=2.0,
    polish=Polish(
        tune_steps=(20,),
        tune_batch=60_000,
        tune_rate=0.01,
        tune_weight_rate=0.05,
        margins=None,
        sweeps=_SWEEPS,
        proposals=16,
        softness=0.1,
    ),
)
"""Of a network that no task was calibrated for: its attempts never give up."""
