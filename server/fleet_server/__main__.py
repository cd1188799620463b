from __future__ import annotations

from fleet_server.cli import main

main()
