"""`python -m fleet_client` is `fleet`."""

from __future__ import annotations

from fleet_client.cli import main

if __name__ == "__main__":
    main()
