"""Resident memory of this process. Linux only: getrusage is more portable, but may include the parent's memory."""

from __future__ import annotations

from pathlib import Path


def held_bytes(field: str) -> int:
    """Bytes of a field of /proc/self/status: VmHWM is the peak so far, VmRSS the present size."""
    fields = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields[field].split()[0])
