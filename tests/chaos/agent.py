"""The real `fleet-agent`, in less of a hurry to wait: its pauses are scaled to leases of seconds.

CHAOS_BOOT names the life of the machine, so that a reboot can be played.
"""

from __future__ import annotations

import os

from fleet_agent import agent, cli
from fleet_agent.settings import Timing

SHORT = Timing(claim_wait=3.0, retry_ceiling=2.0, log_patience=1.0, http_logs=5.0, progress=0.5, farewell=3.0)


def main() -> None:
    setattr(agent, "boot_id", lambda: os.environ["CHAOS_BOOT"])  # noqa: B010 - neither is meant to be changed
    setattr(cli, "Timing", lambda: SHORT)  # noqa: B010 - by anybody else
    cli.main()


if __name__ == "__main__":
    main()
