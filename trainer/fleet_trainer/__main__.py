from __future__ import annotations

from fleet_trainer.cli import main

main()
