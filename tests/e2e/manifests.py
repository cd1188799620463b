"""Manifests of the end-to-end tests."""

from __future__ import annotations

HEAD = """schema_version = 1
name = "e2e"
[defaults]
min_ram_gib = 0.1
n_resamples = 100
train_hosts = ["subject-01", "subject-02", "subject-03", "subject-04"]
"""
TINY = {
    "gbt": "{ trees = 20 }",
    "transformer_ssl": "{ pretrain_epochs = 1, epochs = 1 }",
    **dict.fromkeys(("cnn", "gru", "lstm", "transformer"), "{ epochs = 1 }"),
    "mlp": "{ epochs = 2 }",
}
MODES = ("realistic", "oracle")


def of(*jobs: str, each: str = "") -> str:
    """One job for each name, in this order of priority; `each` is a line added to all of them."""
    tables = [
        f'[[jobs]]\nname = "{name}"\nmodel = "gbt"\nseed = {seed}\npriority = {-seed}\n{each}\n'
        for seed, name in enumerate(jobs)
    ]
    return HEAD + "".join(tables)


def seven_by_two(host: str, allowed: tuple[str, ...]) -> str:
    """Every model in both modes, with `host` allowed a few; the others come first wherever there is a choice."""
    policy = f"[hosts.{host}]\nallow_jobs = [{', '.join(map(repr, allowed))}]\n"
    tables = [
        f'[[jobs]]\nname = "{model}-{mode}"\nmodel = "{model}"\nmode = "{mode}"\nhyper = {hyper}\n'
        f"priority = {0 if model in allowed else 10}\n"
        for model, hyper in TINY.items()
        for mode in MODES
    ]
    return HEAD + policy + "".join(tables)
