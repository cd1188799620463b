"""A trained model out of its artifact, checked against what the artifact says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fleet_trainer.bundle import NETWORKS, TREES
from fleet_trainer.errors import ArtifactWrong
from fleet_trainer.hyper import NetHyper
from fleet_trainer.task import Shape

if TYPE_CHECKING:
    from fleet_trainer.bundle import Bundle
    from fleet_trainer.job import Job
    from fleet_trainer.task import Fitted
    from fleet_trainer.windows import Windows


def rebuild(bundle: Bundle, job: Job, windows: Windows) -> Fitted:
    """The model, for windows of the channels, rate and length that it was trained on. ArtifactWrong, SpecRefused."""
    hyper = bundle.hyper
    one = replace(windows, starts=windows.starts[:1])
    return _networks(bundle, hyper, job, one) if isinstance(hyper, NetHyper) else _trees(bundle, one)


def _networks(bundle: Bundle, hyper: NetHyper, job: Job, one: Windows) -> Fitted:
    import numpy as np
    import safetensors.torch
    import torch

    from fleet_trainer.devices import find_device
    from fleet_trainer.layers import Standardise
    from fleet_trainer.train import Ensemble, FittedNetworks

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(hyper.threads)
    device = find_device(job, hyper.precision)
    trained = bundle.trained.data
    try:
        state = safetensors.torch.load(bundle.file(NETWORKS))
    except safetensors.SafetensorError as error:
        raise ArtifactWrong(f"{bundle.path}: {NETWORKS} is no safetensors file: {error}") from None
    inputs = hyper.inputs(one, trained.axes)
    shape = Shape(inputs.shape[1:], len(trained.classes))
    ensemble = Ensemble(Standardise(np.zeros((1, *shape.inputs), np.float32), hyper.input_limit))
    with torch.device("meta"):  # without room or values: both come with the file
        ensemble.members.extend(hyper.build(shape) for _ in range(hyper.members))
    try:
        # Copied to where torch itself would have put them: kernels' last bits may hang on how memory is aligned.
        copies = {name: value.to(device, copy=True) for name, value in state.items()}
        ensemble.load_state_dict(copies, assign=True)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise ArtifactWrong(f"{bundle.path}: {NETWORKS} is not what job.json describes: {reason}") from None
    return FittedNetworks(ensemble.float(), hyper, trained.axes, device)


def _trees(bundle: Bundle, one: Windows) -> Fitted:
    import lightgbm

    from fleet_trainer.boost import Boosted
    from fleet_trainer.features import features
    from fleet_trainer.trees import check

    trained = bundle.trained.data
    try:
        text = bundle.file(TREES).decode("ascii")
        check(text, features(one, trained.axes).shape[1], len(trained.classes))
        booster = lightgbm.Booster(model_str=text)
    except (ValueError, lightgbm.basic.LightGBMError) as error:
        raise ArtifactWrong(f"{bundle.path}: {TREES} is not the model of job.json: {error}") from None
    return Boosted(booster, trained.axes)
