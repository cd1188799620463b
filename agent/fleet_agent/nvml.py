"""What NVIDIA's driver says about its devices, as JSON on stdout: what they are or, asked for `gauges`, how busy.

A program of its own: a wedged driver can hang for ever, and then only a process can be given a time limit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pynvml  # type: ignore[import-untyped]  # nvidia-ml-py ships no types

GIB = 2**30


def handles() -> Iterator[object]:
    """In the driver's order; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    for index in range(pynvml.nvmlDeviceGetCount()):
        yield pynvml.nvmlDeviceGetHandleByIndex(index)


def device(handle: object) -> dict[str, object]:
    return {
        "kind": "cuda",
        "name": pynvml.nvmlDeviceGetName(handle),
        "vram_gib": round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB, 2),
        "driver": pynvml.nvmlSystemGetDriverVersion(),
    }


def gauge(handle: object) -> dict[str, object]:
    def asked(question: Callable[[], float]) -> float | None:
        try:
            return question()
        except pynvml.NVMLError:  # not every device answers everything
            return None

    return {
        "busy_pct": asked(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "vram_used_gib": asked(lambda: round(pynvml.nvmlDeviceGetMemoryInfo(handle).used / GIB, 2)),
        "temperature_c": asked(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
    }


if __name__ == "__main__":
    tell = gauge if sys.argv[1:] == ["gauges"] else device
    sys.stdout.write(json.dumps([tell(handle) for handle in handles()]))
