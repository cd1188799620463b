"""What every attempt of this agent shares."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_agent.blobs import BlobCache
from fleet_agent.gauges import Meter
from fleet_agent.heartbeat import Pace
from fleet_agent.limits import Clock, since_boot
from fleet_agent.process import REAL, Processes
from fleet_agent.settings import Settings, Timing
from fleet_agent.spools import Spools
from fleet_agent.uplink import Uplink
from fleet_protocol.capability import Capability
from fleet_protocol.ids import WorkerId


@dataclass(frozen=True, slots=True)
class Surroundings:
    settings: Settings
    timing: Timing
    worker: WorkerId
    boot_id: str | None
    capability: Capability
    uplink: Uplink
    spools: Spools
    pace: Pace
    meter: Meter
    cache: BlobCache
    processes: Processes = REAL
    clock: Clock = since_boot
