"""How long the tests take from a fresh clone: `make test` with everything it installs, then `make fast` alone.

    python benchmarks/test_times.py [--fast-only]

The package cache should be warm, so that no download is measured. Absolute times depend on the machine: the goals are
for two cores that do nothing else. CPU seconds (user and system, all processes) depend on that much less.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast-only", action="store_true", help="print the fast tests' times and record nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "personaplug"
        subprocess.run(["git", "clone", "--quiet", str(HERE.parent), str(clone)], check=True)
        if args.fast_only:
            timed(clone, "venv")
            print(timed(clone, "fast"))
            return
        times = {"test": timed(clone, "test"), "fast": timed(clone, "fast"), "cores": os.cpu_count()}
    print(times)
    write_json(HERE / "test_times.json", times)
    minutes, seconds = times["test"]["seconds"] / 60, times["fast"]["seconds"]
    record(
        HERE,
        Claim.now("test-minutes", "make test from a fresh clone with a warm package cache on two cores: minutes",
                  [minutes], "<= 8"),
        Claim.now("fast-test-seconds", "make fast on two cores: seconds", [seconds], "<= 60"),
    )  # fmt: skip


def timed(clone: Path, target: str) -> dict[str, float]:
    """Wall and CPU seconds of `make TARGET`, which must pass."""
    wall, cpu = time.perf_counter(), of_children()
    subprocess.run(["make", target], cwd=clone, check=True)
    return {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(of_children() - cpu, 1)}


def of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
