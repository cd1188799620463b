"""The schema's history; ships in the wheel. `fleet-server migrate` walks it."""
