"""`make demo` as a new user runs it: a fresh clone, an empty cache, one command; how long it takes.

    python benchmarks/demo_time.py [--keep FOLDER]

Records minutes of the whole and of the training. Absolute times depend on the machine: the goals are for two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="copy the demo's folder here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "personaplug"
        subprocess.run(["git", "clone", "--quiet", str(HERE.parent), str(clone)], check=True)
        start = time.perf_counter()
        env = os.environ | {"PERSONAPLUG_CACHE": str(Path(name) / "cache")}
        code = subprocess.run(["make", "demo"], cwd=clone, env=env, check=False).returncode
        minutes = (time.perf_counter() - start) / 60
        demo = clone / "demo"
        logs = [json.loads((demo / f"{m}.training.json").read_text()) for m in ("plug", "task_prompt")]
        training = sum(log["seconds"] for log in logs) / 60
        good = code == 0 and (demo / "report.html").exists()
        if args.keep:
            shutil.copytree(demo, args.keep, dirs_exist_ok=True)
    figures = {
        "exit": code,
        "minutes": round(minutes, 2),
        "training_minutes": round(training, 2),
        "cores": os.cpu_count(),
    }
    print(figures)
    write_json(HERE / "demo_time.json", figures)
    record(
        HERE,
        Claim.now("demo-minutes", "make demo from a fresh clone with an empty cache on two cores: minutes",
                  [minutes], "<= 20", good and minutes <= 20),
        Claim.now("demo-training-minutes", "of which training the plug and its control: minutes",
                  [training], "<= 12", good and training <= 12),
    )  # fmt: skip


if __name__ == "__main__":
    main()
