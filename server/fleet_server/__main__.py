"""Where `fleet-server` begins: Ctrl-C is as quiet while it still imports as it is later."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from fleet_server.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
