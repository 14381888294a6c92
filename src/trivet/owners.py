"""Which process holds a lease, and whether it still lives, as far as this host can tell."""

from __future__ import annotations

import functools
import json
import os
import platform
from pathlib import Path

import psutil

_CLOCK_SLACK = 5.0
"""Seconds by which a process's reported start may move when the host's clock is set."""


@functools.cache
def _host() -> str:
    """Name this host, its boot and its process namespace: only within these is a pid a process."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    booted = boot.read_text().strip() if boot.exists() else f"{psutil.boot_time():.0f}"
    inside = namespace.readlink().name if namespace.exists() else ""
    return f"{platform.node()}/{booted}/{inside}"


def me(task: str) -> str:
    """Describe a task of this process so that another one can tell whether it still lives."""
    process = psutil.Process(os.getpid())
    parts = {"host": _host(), "pid": process.pid, "started": process.create_time(), "task": task}
    return json.dumps(parts)


def is_alive(owner: str) -> bool:
    """Say whether an owner may still live: False only if this host knows that it does not."""
    try:
        parts = json.loads(owner)
        host, pid, started = parts["host"], parts["pid"], parts["started"]
    except (ValueError, KeyError, TypeError):
        return True
    if host != _host():
        return True
    try:
        process = psutil.Process(pid)
        return bool(
            abs(process.create_time() - started) < _CLOCK_SLACK
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def describe(owner: str) -> str:
    """Return an owner as a person reads it."""
    try:
        parts = json.loads(owner)
        return f"process {parts['pid']} on {parts['host'].partition('/')[0]}"
    except (ValueError, KeyError, TypeError):
        return owner
