"""What NVIDIA's driver says about its devices, as JSON on stdout.

A program of its own: a wedged driver can hang for ever, and then only a process can be given a time limit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pynvml  # type: ignore[import-untyped]  # nvidia-ml-py ships no types

GIB = 2**30


def devices() -> Iterator[dict[str, object]]:
    """One entry per device in the driver's order; nothing without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    driver = pynvml.nvmlSystemGetDriverVersion()
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        total = pynvml.nvmlDeviceGetMemoryInfo(handle).total
        yield {
            "kind": "cuda",
            "name": pynvml.nvmlDeviceGetName(handle),
            "vram_gib": round(total / GIB, 2),
            "driver": driver,
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(devices())))
