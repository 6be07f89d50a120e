"""Do several processes that write to one user of one store at once lose or double anything?

    python benchmarks/writers.py

Eight processes add to one user, a behaviour a call, all at once; what they said is stored is counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from personaplug.bench.claims import Claim, record
from personaplug.core.files import write_json
from personaplug.stores.sql import SqlConfig, SqlStore

HERE = Path(__file__).parent
WRITERS, CALLS = 8, 50
WRITE = """
import sys
from personaplug.stores.sql import SqlConfig, SqlStore
from personaplug.core.types import Behavior
name, path, calls = sys.argv[1:]
store = SqlStore(SqlConfig(path))
print("ready", flush=True)
sys.stdin.readline()
said = sum(store.add([Behavior("all", f"{name}-{i}", "in", "some text")]) for i in range(int(calls)))
print(said, flush=True)
store.close()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the store is made and removed; by default a temporary one")
    parser.add_argument("--results", type=Path, default=HERE, help="folder of writers.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        figures = written(Path(folder) / "writers.db")
    print(figures)
    write_json(args.results / "writers.json", figures)
    lost = figures["said"] - figures["stored"]
    words = f"behaviours lost or doubled when {WRITERS} processes add {CALLS} each to one user at once"
    record(args.results, Claim.now("writers", words, [float(abs(lost))], "0", lost == 0))


def written(path: Path) -> dict[str, int]:
    """How many behaviours eight processes said they had added, and how many there are."""
    SqlStore(SqlConfig(str(path))).close()
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(n), str(path), str(CALLS)], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for n in range(WRITERS)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout
        process.stdout.readline()
    for process in processes:  # all at once, when the last one is ready
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sum(int(process.communicate()[0]) for process in processes)
    store = SqlStore(SqlConfig(str(path)))
    past = store.history("all")
    store.close()
    return {"processes": WRITERS, "said": said, "stored": len({b.id for b in past}), "version": past.version}


if __name__ == "__main__":
    main()
