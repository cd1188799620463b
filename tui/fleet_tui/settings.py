"""What the dashboard remembers from one day to the next: one JSON file in the account's configuration folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet_client.contexts import config_folder


@dataclass(frozen=True, slots=True)
class Settings:
    """Every field is a key of the file, of this type."""

    theme: str = "dark"
    ascii: bool = False
    view: str = "jobs"
    sort: str = "status"
    descending: bool = False
    group: str = ""
    wrap: bool = False
    stamps: bool = False


UNTOUCHED = Settings()


def settings_file() -> Path:
    return config_folder() / "dashboard.json"


def read(path: Path) -> tuple[Settings, str]:
    """What is kept there, and one sentence about what of it cannot be used; empty where all can."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return UNTOUCHED, ""
    except (OSError, ValueError) as error:
        return UNTOUCHED, f"{path} cannot be read and is ignored: {error}"
    if not isinstance(kept, dict):
        return UNTOUCHED, f"{path} is ignored: it holds no JSON object"
    usable = {key: value for key, value in asdict(UNTOUCHED).items() if type(kept.get(key)) is type(value)}
    ignored = ", ".join(sorted(kept.keys() - usable.keys()))
    settings = Settings(**{key: kept[key] for key in usable})
    return settings, f"{path}: ignored {ignored}" if ignored else ""


def write(path: Path, settings: Settings) -> None:
    """Replaces the file as a whole. OSError where that cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(asdict(settings), indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
