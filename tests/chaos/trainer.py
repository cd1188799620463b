"""A trainer that trains nothing; every byte it prints is a function of its attempt, so that anybody can check a log.

`python trainer.py FOLDER`. What it prints is blocks of 4 KiB, each with its attempt, number and checksum, in one of
several ugly forms, and one last block where it ends by itself. In FOLDER it notes `ATTEMPT.printed` (how much it
printed at least) and `ATTEMPT.ended` (how it ended, if by itself). It imports little, so that it starts quickly.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

BLOCK = 4096
CHECKPOINTED = 75
FORMS = ("lines", "bars", "bytes", "long")
KINDS = (
    "steady",
    "failing",
    "stubborn",
    "forking",
    "escaping",
    "resuming",
    "quitting",
    "flooding",
    "silent",
    "choosy",
    "own",
)
"""What a job's name begins with: how its trainers behave."""


def block(attempt: str, number: int) -> bytes:
    """The block of this number in an attempt's log."""
    head = f"{attempt} {number:08d} ".encode()
    noise = hashlib.shake_128(head).digest(BLOCK)
    form = FORMS[zlib.crc32(attempt.encode()) % len(FORMS)]
    if form == "bytes":  # NULs, broken UTF-8, sequences that drive terminals
        body = b"\x00\xff\x1b[2J" + noise
    elif form == "bars":
        body = b"".join(b"\r" + noise[at : at + 20].hex().encode() for at in range(0, BLOCK, 20))
    else:
        wide = noise.hex().encode()
        step = BLOCK * 2 if form == "long" else 100
        body = b"\n".join(wide[at : at + step] for at in range(0, len(wide), step))
    body = body[: BLOCK - len(head) - 9]
    return head + f"{zlib.crc32(body):08x} ".encode() + body


def ending(attempt: str, blocks: int, status: int) -> bytes:
    """What a trainer prints in place of the next block when it ends by itself; without a newline at the end."""
    words = "done" if status == 0 else f"Traceback (most recent call last):\nChaosError: ends with {status}"
    return f"\n{attempt} ends after {blocks} blocks\n{words}".encode()


def mistake(attempt: str, offset: int, data: bytes) -> int | None:
    """Where `data`, read at `offset` of the attempt's log, first holds what its trainer never printed there."""
    at = offset
    while at < offset + len(data):
        number, within = divmod(at, BLOCK)
        piece = data[at - offset : at - offset + BLOCK - within]
        if not any(piece == text[within : within + len(piece)] for text in _candidates(attempt, number)):
            return at
        at += len(piece)
    return None


def _candidates(attempt: str, number: int) -> Iterator[bytes]:
    yield block(attempt, number)
    for status in (0, 1, 2, 3, CHECKPOINTED):
        yield ending(attempt, number, status)


class Trainer:
    """One attempt's life, all of it drawn from the attempt."""

    def __init__(self, control: Path) -> None:
        job = Path(os.environ["FLEET_JOB_SPEC"])
        self.attempt = job.parent.name
        self.kind = json.loads(job.read_text())["name"].partition("-")[0]
        self.luck = random.Random(self.attempt)
        self.control = control
        self.job = json.loads(job.read_text())["job_id"]
        self.is_asked_to_stop = False
        self.printed = 0
        self._noted = os.open(control / f"{self.attempt}.printed", os.O_WRONLY | os.O_CREAT, 0o600)

    def say(self, data: bytes, descriptor: int) -> None:
        """Print all of it, noting after each part how much it was; a full disk is waited out, or the end."""
        rest = memoryview(data)
        while rest:
            try:
                count = os.write(descriptor, rest)
            except OSError:
                if self.luck.random() < 0.2:
                    os._exit(74)
                time.sleep(0.2)
                continue
            self.printed += count
            rest = rest[count:]
            os.pwrite(self._noted, b"%016d" % self.printed, 0)

    def tell(self, **event: object) -> None:
        """A line of FLEET_EVENTS; sometimes half of one, which nobody may mind."""
        line = json.dumps(event) + "\n"
        try:
            with Path(os.environ["FLEET_EVENTS"]).open("a") as events:
                events.write(line if self.luck.random() > 0.02 else line[: len(line) // 2] + "\n")
        except OSError:
            pass

    def run(self) -> int:
        if self.kind == "silent":
            return self._deliver()
        if self.kind == "own":
            self._look_around()
        signal.signal(signal.SIGTERM, signal.SIG_IGN if self.kind == "stubborn" else self._on_sigterm)
        if self.kind in ("forking", "escaping") and os.fork() == 0:
            if self.kind == "escaping":
                os.setsid()
            time.sleep(600)
            os._exit(0)
        blocks = self.luck.randrange(500, 2000) if self.kind == "flooding" else self.luck.randrange(3, 120)
        pause = 0.0 if self.kind == "flooding" else self.luck.uniform(0.02, 0.1)
        for number in range(self._checkpoint(), blocks):
            self._step(number, blocks)
            if self.is_asked_to_stop:
                return CHECKPOINTED
            time.sleep(pause)
        status = self._status()
        self.say(ending(self.attempt, self._spoken, status), 2 if status else 1)
        return self._deliver() if status == 0 else status

    _spoken = 0

    def _step(self, number: int, total: int) -> None:
        text = block(self.attempt, self._spoken)
        cut = self.luck.randrange(BLOCK)
        self.say(text[:cut], 1)
        self.say(text[cut:], 2)
        self._spoken += 1
        self.tell(type="progress", step=number, total=total)
        self.tell(type="metric", name="loss", step=number, value=1 / (number + 1))
        if number % 4 == 3 and self.kind in ("resuming", "own"):
            folder = Path(os.environ["FLEET_CHECKPOINT_DIR"])
            try:
                (folder / "draft").write_text(f"{self.job} {number + 1}")
                (folder / "draft").replace(folder / "step")
            except OSError:  # a full disk
                return
            self.tell(type="checkpoint", step=number)

    def _look_around(self) -> None:
        """The program's source and its data set have to be whole."""
        data = hashlib.sha256(Path(os.environ["FLEET_DATA"]).read_bytes()).hexdigest()
        if Path("source.txt").read_text() != data:
            self._complain(f"its source and its data set {data} do not belong together")

    def _checkpoint(self) -> int:
        """From where to go on: what an earlier attempt at the same job left, on whatever machine."""
        try:
            job, _, step = (Path(os.environ["FLEET_CHECKPOINT_DIR"]) / "step").read_text().partition(" ")
        except OSError:
            return 0
        if job != self.job or not step.isdecimal():
            self._complain(f"its checkpoint is {job} {step}")
            return 0
        (self.control / f"{self.attempt}.resumed").write_text(step)
        return int(step)

    def _complain(self, what: str) -> None:
        (self.control / f"{self.attempt}.wrong").write_text(what)

    def _status(self) -> int:
        if self.kind == "failing":
            return 1
        if self.kind == "choosy":
            return self.luck.choice((2, 3))
        return self.luck.choice((0, CHECKPOINTED)) if self.kind == "quitting" else 0

    def _deliver(self) -> int:
        """The output names its attempt, and is large enough to be cut on its way."""
        output = Path(os.environ["FLEET_OUTPUT_DIR"])
        noise = hashlib.shake_128(self.attempt.encode()).digest(self.luck.randrange(1, 1_000_000))
        metrics = {"metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "unit": "host"}}}
        try:
            (output / "weights.txt").write_text(f"{self.attempt}\n")
            (output / "noise").write_bytes(noise)
            (output / "metrics.json").write_text(json.dumps(metrics))
        except OSError:
            return 74
        return 0

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self.is_asked_to_stop = True


def main() -> None:
    trainer = Trainer(Path(sys.argv[1]))
    status = trainer.run()
    (trainer.control / f"{trainer.attempt}.ended").write_text(f"{status}\n")
    os._exit(status)


if __name__ == "__main__":
    main()
