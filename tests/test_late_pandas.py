"""pyarrow knows pandas from the moment that somebody imports it, and no sooner."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pyarrow as pa

from trivet.late_pandas import put_off

PARTS = (
    "cli.wiring",
    "check",
    "dashboard.app",
    "hosts.batch.run",
    "hosts.service.worker",
    "hosts.service.protocols.oip_grpc",
    "hosts.stream.worker",
    "settings",
)


def run(code: str) -> list[str]:
    """Run code in a process of its own; return the lines that it prints."""
    begin = "import sys\nimport pyarrow as pa\nfrom trivet.late_pandas import put_off\nput_off()\n"
    command = [sys.executable, "-W", "error", "-c", begin + code]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_part_imports_it() -> None:
    """Nor makes an array while it is imported, which is before a process can put it off."""
    names = ", ".join(f"trivet.{part}" for part in PARTS)
    code = f"import sys, {names}; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_arrays_are_made_without_it() -> None:
    told = run("""
import numpy as np
pa.array([1.0, None])
pa.array(np.zeros(3))
pa.table({"x": [1, 2]}).to_pylist()
pa.scalar(1)
print("pandas" in sys.modules)
""")
    assert told == ["False"]


def test_its_objects_are_known_once_it_is_imported() -> None:
    told = run("""
import pandas as pd
series = pd.Series([1.0, None, 2.0])
print(pa.array(series).null_count)
print(pa.table(pd.DataFrame({"x": series}))["x"].null_count)
print(pa.array(pd.Categorical(["a", "b"])).type)
print(pd.__spec__.loader is pd.__loader__, type(pd.__loader__).__module__)
print([type(each).__module__ for each in sys.meta_path if "trivet" in type(each).__module__])
""")
    assert told[:2] == ["1", "1"]
    assert told[2].startswith("dictionary<values=")
    assert told[3:] == ["True _frozen_importlib_external", "[]"]


def test_it_is_imported_when_it_is_asked_for() -> None:
    told = run("""
frame = pa.table({"x": [1, 2]}).to_pandas()
print(type(frame).__name__, pa.array(frame["x"]).to_pylist())
import pandas
print(pa.array(pandas.Series([None, 1.0])).null_count)
""")
    assert told == ["DataFrame [1, 2]", "1"]


def test_it_may_be_imported_on_a_thread() -> None:
    told = run("""
import threading
def load():
    import pandas
    counts.append(pa.array(pandas.Series([None, 1.0])).null_count)
counts = []
threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads: thread.start()
while any(thread.is_alive() for thread in threads): pa.array([1, 2])
print(counts)
""")
    assert told == ["[1, 1, 1, 1]"]


def test_where_it_is_not_installed_nothing_changes() -> None:
    told = run("""
sys.path[:] = []
for _ in range(2):
    try:
        import pandas
    except ModuleNotFoundError as error:
        print(error.name)
print(pa.array([1]).type)
""")
    assert told == ["pandas", "pandas", "int64"]


def test_where_it_is_there_already_nothing_changes() -> None:
    before = list(sys.meta_path)
    put_off()
    assert sys.meta_path == before
    assert pa.array(pd.Series([None, 1.0])).null_count == 1
