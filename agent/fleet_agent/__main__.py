from __future__ import annotations

from fleet_agent.cli import main

main()
