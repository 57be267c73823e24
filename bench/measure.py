"""What the benchmarks share: programs, checkpoints, watched commands, floors."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0))


def arguments(doc, steps):
    """The command line of every run.py: a step and where to work."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("step", choices=steps)
    p.add_argument("--work", type=pathlib.Path, required=True, help="folder for programs and checkpoints, which stay there")
    p.add_argument("--prepare", action="store_true", help="only make what the step needs")
    p.add_argument("--quick", action="store_true", help="small sizes and single rounds, to see that all works")
    o = p.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    return o


def program(work, package):
    """The path of a Go program, built unless it is there."""
    path = work / "bin" / package.removeprefix("./").replace("/", "-")
    if not path.exists():
        subprocess.run(["go", "build", "-o", path, package], cwd=ROOT, check=True)
    return path


def pool(work, shape, experts, dtype, layers=0):
    """A base and fine-tunes of it by tools/synth. Only the last pool is kept."""
    folder = work / "pool" / f"{shape}-{experts}-{dtype}-{layers}"
    if not folder.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        part = folder.with_suffix(".part")
        subprocess.run([program(work, "./tools/synth"), "-shape", shape, "-experts", str(experts), "-dtype", dtype, "-layers", str(layers), "-o", part], check=True)
        part.rename(folder)
    return folder / "base", sorted(folder.glob("expert-*"))


def fresh(work, name):
    """The path of an output, which is not there."""
    path = work / "out" / name
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(exist_ok=True)
    return path


def drop_caches():
    """Empties the page cache, and says whether it could."""
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False


def watched(command, env=None, every=0.01):
    """Runs a command; returns seconds, peak RssAnon, peak RSS (bytes) and output.
    Memory is looked at so often, in seconds: every 10 ms costs a command that has
    all cores at work some 8 % of its time."""
    start = time.perf_counter()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    peak = {"RssAnon": 0, "VmHWM": 0}

    def sample():
        while p.poll() is None:
            try:
                for line in open(f"/proc/{p.pid}/status"):
                    key, _, value = line.partition(":")
                    if key in peak:
                        peak[key] = max(peak[key], int(value.split()[0]) * 1024)
            except OSError:
                return
            time.sleep(every)

    t = threading.Thread(target=sample)
    t.start()
    out, err = p.communicate()
    took = time.perf_counter() - start
    t.join()
    if p.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{err}")
    return took, peak["RssAnon"], peak["VmHWM"], out


def read(inputs):
    """Reads every checkpoint once."""
    subprocess.run(["sh", "-c", 'cat "$@" >/dev/null', "sh", *[f for e in inputs for f in sorted(e.glob("*.safetensors"))]], check=True)


def copy(work, inputs, output, cold=False):
    """Seconds for the same bytes: every input read once, the output's copied and
    synced. cold empties the page cache before."""
    twin = fresh(work, "twin")
    if cold:
        drop_caches()
    start = time.perf_counter()
    read(inputs)
    subprocess.run(["cp", "-r", output, twin], check=True)
    subprocess.run(["sync", "-f", twin], check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(twin)
    return seconds


def folder_bytes(*folders):
    return sum(f.stat().st_size for d in folders for f in d.rglob("*") if f.is_file())


def decomposed(work, matrix, *options):
    """What bench/linalg says of a float32 matrix, with the machine's floors."""
    path = work / "matrix.f32"
    matrix.tofile(path)
    m, n = matrix.shape
    line = [program(work, "./bench/linalg"), "-m", str(m), "-n", str(n), "-in", path, *map(str, options)]
    try:
        return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
    finally:
        path.unlink()


def floors(work):
    """The machine's peaks: float32 operations and bytes read from memory, a second."""
    return json.loads(subprocess.run([program(work, "./bench/linalg")], check=True, stdout=subprocess.PIPE, text=True).stdout)


def weights(folder):
    """A function from a tensor's name to its float32 array, and all shapes."""
    from safetensors import safe_open

    files = {name: f for path in sorted(folder.glob("*.safetensors")) for f in [safe_open(path, "pt")] for name in f.keys()}
    shapes = {name: tuple(f.get_slice(name).get_shape()) for name, f in files.items()}
    return lambda name: files[name].get_tensor(name).float().numpy(), shapes


def products(work, base, experts, modules, rank, router):
    """Operations, in 10⁹, of the products with the deltas of these modules, and the seconds that
    they take at the rate of fused multiply-adds measured beside them. One delta of each shape
    is decomposed to see how many products it takes."""
    of_base, shapes = weights(base)
    of_expert, _ = weights(experts[0])
    work_of, peak = {}, 0
    for module in modules:
        name = module + ".weight"
        if (shape := shapes[name]) not in work_of:
            r = decomposed(work, of_expert(name) - of_base(name), "-rank", rank, "-router", router, "-reps", 0)
            work_of[shape], peak = r["operations"], max(peak, r["fma"])
    total = len(experts) * sum(work_of[shapes[m + ".weight"]] for m in modules)
    return total / 1e9, total / peak


def row(*cells):
    return f"| {' | '.join(map(str, cells))} |"


def header(*cells):
    return row(*cells) + "\n|" + "---|" * len(cells)


def target(what, value, met):
    return f"- {what}: {value}, {'met' if met else '**not met**'}"


def percent(x):
    return f"{100 * x:.0f} %"


def seconds(x):
    return f"{x:.0f} s" if x >= 100 else f"{x:.1f} s" if x >= 1 else f"{x:.2f} s"


def size(n):
    return f"{n / 1e6:.0f} MB" if n < 1e10 else f"{n / 1e9:.1f} GB"
