"""Every model, trained twice in processes that share nothing, leaves the same bits."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.synthetic import TINY, TORCH_FREE, contents, job_spec, train_here

ROOT = Path(__file__).parents[2]
MODELS = list(TINY) if importlib.util.find_spec("torch") else list(TORCH_FREE)
TRAIN = """
import sys
from pathlib import Path
from tests.trainer.synthetic import job_spec, train_here
for model in sys.argv[3:]:
    train_here(Path(sys.argv[1], model), Path(sys.argv[2]), job_spec(model))
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, data: Path) -> list[Path]:
    """Two folders of trained models; their processes order sets and dictionaries of text differently."""
    folders = [tmp_path_factory.mktemp("rerun") for _ in range(2)]
    fixed = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(folder), str(data), *MODELS],
            cwd=ROOT,
            env=os.environ | fixed | {"PYTHONHASHSEED": str(number), "FLEET_ATTEMPT": str(number)},
            stdout=subprocess.DEVNULL,
        )
        for number, folder in enumerate(folders, 1)
    ]
    assert [process.wait() for process in running] == [0, 0]
    return folders


@pytest.mark.parametrize("model", MODELS)
def test_the_same_job_gives_the_same_bits(outputs: list[Path], model: str):
    first, second = (contents(folder / model / "out") for folder in outputs)
    assert first == second


def test_another_seed_gives_another_model(outputs: list[Path], tmp_path: Path, data: Path):
    for model in {"gbt", "mlp"} & set(MODELS):
        other = contents(train_here(tmp_path / model, data, job_spec(model, seed=8)))
        same = contents(outputs[0] / model / "out").items() & other.items()
        assert not [name for name, _ in same if name.startswith("model")]
