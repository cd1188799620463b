"""Training a network: one readable loop for all of them, with exact resume."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from fleet_trainer import TRAINER_VERSION
from fleet_trainer.devices import find_device, mixed, random_state, set_random_state, together
from fleet_trainer.errors import DataWrong, Stopped, TrainerError
from fleet_trainer.job import say, write_whole
from fleet_trainer.layers import PatchTransformer, Standardise
from fleet_trainer.task import Shape, derived_seed, member_seed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fleet_trainer.devices import Ranks
    from fleet_trainer.hyper import NetHyper
    from fleet_trainer.job import Job
    from fleet_trainer.task import Task
    from fleet_trainer.windows import Inputs, Windows

PREDICT_BATCH = 512
WARMUP = 0.2  # share of a phase in which the learning rate rises


class Ensemble(nn.Module):
    """Standardisation and networks in one, so that the model file is complete. One network is the plain case."""

    def __init__(self, standardise: Standardise) -> None:
        super().__init__()
        self.standardise = standardise
        self.members = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape.inputs) as recorded to (batch, classes): the mean of the members' probabilities."""
        standardised = self.standardise(x)
        told = [functional.softmax(member(standardised), dim=1) for member in self.members]
        return torch.stack(told).mean(0)


# (model, standardised inputs, targets, generator) to the loss and how many predictions were right, if any were made.
Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], tuple[Tensor, int | None]]


class Phase(NamedTuple):
    name: str
    epochs: int
    lr: float
    loss: Loss
    unlabelled: bool = False  # are windows without a label of use?


def classification(smoothing: float, class_weights: NDArray[np.float32] | None = None) -> Loss:
    weights = None if class_weights is None else torch.from_numpy(class_weights)

    def loss(model: nn.Module, x: Tensor, y: Tensor, _: torch.Generator) -> tuple[Tensor, int | None]:
        logits = model(x).float()
        right = int((logits.argmax(1) == y).sum())
        weight = None if weights is None else weights.to(logits)
        return functional.cross_entropy(logits, y, weight, label_smoothing=smoothing), right

    return loss


def reconstruction(ratio: float) -> Loss:
    def loss(model: nn.Module, x: Tensor, _: Tensor, generator: torch.Generator) -> tuple[Tensor, int | None]:
        assert isinstance(model, PatchTransformer)
        return model.reconstruction(x, ratio, generator), None

    return loss


class FittedNetworks:
    def __init__(
        self, ensemble: Ensemble, hyper: NetHyper, vectors: tuple[tuple[int, ...], ...], device: torch.device
    ) -> None:
        self._ensemble = ensemble
        self._hyper = hyper
        self._vectors = vectors
        self._device = device

    @torch.no_grad()
    def predict(self, windows: Windows) -> NDArray[np.float32]:
        self._ensemble.eval()
        inputs = self._hyper.inputs(windows, self._vectors)
        parts = (slice(begin, begin + PREDICT_BATCH) for begin in range(0, len(inputs), PREDICT_BATCH))
        told = [self._ensemble(torch.from_numpy(inputs[part]).to(self._device)) for part in parts]
        probabilities: NDArray[np.float32] = torch.cat(told).cpu().numpy()
        return probabilities

    def save(self, folder: Path) -> None:
        state = {name: value.cpu().contiguous() for name, value in self._ensemble.state_dict().items()}
        # No metadata: with two keys or more the header's order would change from process to process.
        write_whole(folder / "model.safetensors", safetensors.torch.save(state))


def fit(hyper: NetHyper, task: Task) -> FittedNetworks:
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(hyper.threads)
    device = find_device(task.job, hyper.precision)
    inputs = hyper.inputs(task.train, task.dataset.vectors)
    y = torch.from_numpy(task.train.y).to(device)
    if (y >= 0).sum() < 2:
        raise DataWrong(
            "there is only one window to train on; lower hyper.window_seconds or hyper.stride_seconds"
        )
    shape = Shape(inputs.shape[1:], len(task.dataset.classes))
    ensemble = Ensemble(Standardise(inputs, hyper.input_limit)).to(device)
    try:
        with together(task.job, device) as ranks:
            train(ensemble, inputs, y, hyper, task, build=lambda: hyper.build(shape).to(device), ranks=ranks)
    except torch.OutOfMemoryError:
        raise TrainerError(f"out of memory on {device}; lower hyper.batch_size or hyper.width") from None
    except RuntimeError as error:
        if "memory" in str(error) and "alloc" in str(error):  # what torch raises where the CPU's runs out
            raise MemoryError from None
        raise
    return FittedNetworks(ensemble, hyper, task.dataset.vectors, device)


def train(  # noqa: C901, PLR0915 - read in order
    ensemble: Ensemble,
    inputs: Inputs,
    y: Tensor,
    hyper: NetHyper,
    task: Task,
    *,
    build: Callable[[], nn.Module],
    ranks: Ranks,
) -> None:
    """Run every phase of every member; Stopped, after a checkpoint, at the step during which a stop was asked.

    A checkpoint holds all that the next step depends on, so a resumed run ends in the same bits.
    """
    job = task.job
    labelled = int((y >= 0).sum())
    share = ranks.share_of(min(hyper.batch_size, labelled))
    batch_size = share * ranks.count
    plan = [
        # No partial batch: BatchNorm cannot take a single window.
        (member, phase, (windows := len(y) if phase.unlabelled else labelled), windows // batch_size)
        for member in range(hyper.members)
        for phase in hyper.phases(hyper.class_weights(task))
    ]
    total = sum(phase.epochs * per_epoch for _, phase, _, per_epoch in plan)
    generator = torch.Generator()
    order = torch.empty(0, dtype=torch.int64)
    identity = _identity(hyper, task)
    saved = _resumable(job, identity)
    first = saved["phase"] if saved else 0
    done = 0

    for number, (member, phase, windows, per_epoch) in enumerate(plan):
        if member == len(ensemble.members):
            seed = member_seed(task.spec.seed, member)
            torch.manual_seed(derived_seed(seed, "weights"))
            generator.manual_seed(derived_seed(seed, "order"))
            ensemble.members.append(build())
            weights = sum(p.numel() for p in ensemble.members[member].parameters())
            say(f"{weights:,} weights on {y.device}, {hyper.threads} CPU thread(s)")
        steps = phase.epochs * per_epoch
        if number < first:
            done += steps
            continue
        name = phase.name if hyper.members == 1 else f"{phase.name} {member + 1}/{hyper.members}"
        job.phase(name)
        model = ensemble.members[member]
        optimiser = torch.optim.AdamW(model.parameters(), phase.lr, weight_decay=hyper.weight_decay)
        warmup = max(WARMUP, 2 / (steps + 1))  # torch divides by zero when a short run has no warm-up step
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, phase.lr, total_steps=steps + 1, pct_start=warmup
        )
        step, loss_sum, right = 0, 0.0, 0.0
        if saved:
            ensemble.load_state_dict(saved["ensemble"])
            optimiser.load_state_dict(saved["optimiser"])
            schedule.load_state_dict(saved["schedule"])
            generator.set_state(saved["generator"])
            set_random_state(y.device, saved["random"])
            order, step, loss_sum, right = saved["order"], saved["step"], saved["loss_sum"], saved["right"]
            saved = None
            say(f"resumed {name} at step {done + step} of {total}")

        model.train()
        epoch_began = time.monotonic()
        while step < steps:
            epoch, batch = divmod(step, per_epoch)
            if batch == 0:
                order = torch.randperm(windows, generator=generator)
                loss_sum, right, epoch_began = 0.0, 0.0, time.monotonic()
            rows = ranks.share(order[batch * batch_size : (batch + 1) * batch_size])
            x = torch.from_numpy(inputs[rows.numpy()]).to(y.device)
            with mixed(y.device, hyper.precision):
                loss, hits = phase.loss(model, ensemble.standardise(x), y[rows.to(y.device)], generator)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            told = ranks.average(model, loss.item(), hits or 0, job.should_stop)
            nn.utils.clip_grad_norm_(model.parameters(), hyper.clip_norm)
            optimiser.step()
            schedule.step()
            step += 1
            loss_sum += told[0]
            right += told[1]
            job.progress(done + step, total)

            if batch + 1 == per_epoch:
                mean = loss_sum / per_epoch
                if not math.isfinite(mean):
                    raise TrainerError(f"the loss became {mean} in {name} epoch {epoch + 1}; lower hyper.lr")
                curves = {"loss": mean}
                if hits is not None:
                    curves["accuracy"] = right / (per_epoch * share)
                job.log(done + step, **curves)
                values = "  ".join(f"{key} {value:.4f}" for key, value in curves.items())
                seconds = time.monotonic() - epoch_began
                say(f"{name} epoch {epoch + 1}/{phase.epochs}  {values}  {seconds:.1f} s")

            stop = told[2] > 0 if ranks.count > 1 else job.should_stop
            if stop or job.checkpoint_due:
                state = {
                    "identity": identity,
                    "phase": number,
                    "step": step,
                    "ensemble": ensemble.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "order": order,
                    "generator": generator.get_state(),
                    "random": random_state(y.device),
                    "loss_sum": loss_sum,
                    "right": right,
                }
                job.save(state, done + step)
            if stop:
                after = (
                    "resumes from there" if job.checkpoint_dir else "without FLEET_CHECKPOINT_DIR starts over"
                )
                raise Stopped(f"stopped at step {done + step} of {total}; a restart {after}")
        done += steps


def _identity(hyper: NetHyper, task: Task) -> str:
    """What a checkpoint must agree with."""
    parts = (
        TRAINER_VERSION,
        task.spec.model_dump_json(exclude={"n_resamples"}),
        hyper.model_dump_json(),
        task.dataset.sha256,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _resumable(job: Job, identity: str) -> dict[str, Any] | None:
    saved = job.load()
    if saved is not None and saved.get("identity") != identity:
        say("the checkpoint belongs to another job, starting over")
        return None
    return saved
