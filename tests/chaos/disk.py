"""A small disk that can be full: a tmpfs, made full and empty again by changing its size."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PAGE = 4096


class SmallDisk:
    """`folder` on a disk of its own. `works` is False where this account may not mount."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._size = mebibytes * 1024 * 1024
        self.works = self._mount("-t", "tmpfs", "-o", f"mode=700,size={self._size}", "fleet-chaos")

    def fill(self) -> None:
        """Not one byte more can be written."""
        found = os.statvfs(self.folder)
        used = max(1, found.f_blocks - found.f_bfree) * found.f_frsize
        self._mount("-o", f"remount,size={max(used, PAGE)}", "fleet-chaos")

    def make_room(self) -> None:
        self._mount("-o", f"remount,size={self._size}", "fleet-chaos")

    def close(self, *, keep: bool) -> None:
        """Unmount; `keep` leaves what was on it in the folder."""
        if not self.works:
            return
        aside = self.folder.with_name(self.folder.name + ".kept")
        if keep:
            shutil.copytree(self.folder, aside, symlinks=True)
        subprocess.run(["umount", "--lazy", self.folder], check=False, capture_output=True)
        if keep:
            self.folder.rmdir()
            aside.rename(self.folder)

    def _mount(self, *arguments: str) -> bool:
        if os.name != "posix" or shutil.which("mount") is None:
            return False
        done = subprocess.run(["mount", *arguments, self.folder], check=False, capture_output=True)
        return done.returncode == 0
