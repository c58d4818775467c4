"""What a process holds of memory. Linux only: getrusage, which others have as well, may count that of the parent."""

from __future__ import annotations

from pathlib import Path


def held_bytes(field: str) -> int:
    """VmHWM: the most that this process ever held; VmRSS: what it holds now."""
    fields = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields[field].split()[0])
