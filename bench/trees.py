# SPDX-License-Identifier: Apache-2.0
"""How much memory and processor time whole trees of processes take, read from /proc.

Memory is PSS: pages that processes share are counted once. What is measured, and when, is not known here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from stargate_reconciler import guard

LARGEST_SHARE = 0.05
"""Share of one core that looking at processes may take while something is timed."""
_TICKS = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> set[int]:
    """Return the pids of processes and of all their descendants."""
    chosen = set(roots)
    return chosen.union(*(guard.descendants(root) for root in chosen))


def memory(pids: Iterable[int]) -> tuple[float, float]:
    """Return (PSS, RSS) of processes together in MB (10**6 bytes); those that are gone meanwhile count nothing."""
    totals = {"Pss:": 0, "Rss:": 0}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if words[0] in totals:
                totals[words[0]] += int(words[1])
    return totals["Pss:"] * 1024 / 1e6, totals["Rss:"] * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


class MemoryWatch:
    """Samples the memory of trees in the background while it is open as a context; `peak_pss` is in MB."""

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        self._roots = roots
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_pss = 0.0
        self.peak_rss = 0.0
        self.most_processes = 0

    def __enter__(self) -> MemoryWatch:
        """Begin to sample."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more samples."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.1
        while not self._ended.wait(pause):
            began = time.thread_time()
            pids = tree(self._roots())
            pss, rss = memory(pids)
            self.peak_pss, self.peak_rss = max(self.peak_pss, pss), max(self.peak_rss, rss)
            self.most_processes = max(self.most_processes, len(pids))
            pause = max(0.1, (time.thread_time() - began) / LARGEST_SHARE)
