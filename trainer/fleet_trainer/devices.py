"""Where tensors live, how precise they are, and who else works on them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from fleet_trainer.errors import SpecRefused, TrainerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_trainer.job import Job

Precision: TypeAlias = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Ranks:
    """The processes that share every batch, as torchrun started them; one alone is the plain case.

    They run in step, from the same seeds to the same decisions, and differ only in the rows they look at.
    """

    rank: int
    count: int

    def share_of(self, batch: int) -> int:
        """How many windows of a batch each rank takes. SpecRefused below two: BatchNorm cannot take one."""
        share = batch // self.count
        if share < 2:
            raise SpecRefused(f"hyper.batch_size: {batch} windows for {self.count} ranks; each needs two")
        return share

    def share(self, rows: Tensor) -> Tensor:
        """This rank's rows of a batch that divides by the number of ranks."""
        return rows[self.rank :: self.count]

    def average(self, model: nn.Module, *values: float) -> list[float]:
        """The mean over all ranks of these values, and of the gradients in place: one message a step."""
        if self.count == 1:
            return list(values)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        told = torch.tensor(values, device=gradients[0].device)
        everything = torch.cat([*(gradient.flatten() for gradient in gradients), told])
        torch.distributed.all_reduce(everything)
        everything /= self.count
        sizes = [*(gradient.numel() for gradient in gradients), len(values)]
        *parts, means = torch.split(everything, sizes)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        numbers: list[float] = means.tolist()
        return numbers


@contextmanager
def together(job: Job, device: torch.device) -> Iterator[Ranks]:
    """Meet the other ranks, if there are any, and part from them in the end."""
    if job.ranks > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(job.rank, job.ranks)
    finally:
        if job.ranks > 1:
            torch.distributed.destroy_process_group()


def find_device(job: Job, precision: Precision = "float32") -> torch.device:
    """FLEET_DEVICE, each rank its own GPU. TrainerError when it is not there or lacks the precision."""
    name = f"cuda:{job.local_rank}" if job.device == "cuda" and job.ranks > 1 else job.device
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TrainerError(f"FLEET_DEVICE is {job.device}, but torch {torch.__version__}: {reason}") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
        if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise TrainerError(
                f"{torch.cuda.get_device_name(device)} has no bf16; set hyper.precision to float32"
            )
    return device


def mixed(device: torch.device, precision: Precision) -> torch.autocast:
    """Within it, what bf16 is good enough for is computed in bf16; weights and their updates stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def random_state(device: torch.device) -> dict[str, Tensor]:
    """What dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def set_random_state(device: torch.device, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])
