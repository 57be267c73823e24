"""Times whole fusions beside the peer and beside copying the same bytes.

    python bench/fuse/run.py --out DIR [--only clip,qwen2,mistral] [--quick] [--keep]

Checkpoints of synthetic weights are made in a temporary folder by tools/synth.
--quick measures once, without verifying the output. Memory of smelt is the peak of RssAnon, that is without mapped files, sampled
every 10 ms; the peer's is its peak resident memory. Writes fuse.json and
fuse.md into DIR.

clip     eight full fine-tunes of CLIP-ViT-B/32's vision tower in float32, rank
         32, router 16, beside FusionBench's SmileUpscalingAlgorithm on the CPU
         (its default, full SVD, and its thin SVD), in the same run. --quick
         gives the peer 2 of the 12 layers and scales its time; it says so.
qwen2    a Qwen2-1.5B and two experts in bf16, caches dropped, beside reading the
         inputs and copying the output with cp, synced, caches dropped.
mistral  three experts of Mistral-7B's shapes, 8 of the 32 layers, bf16, ranks
         32 and 128, likewise.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def drop_caches():
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False


def watched(command, env=None):
    """Runs a command; returns seconds, peak RssAnon, peak RSS (bytes) and output."""
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
            time.sleep(0.01)

    t = threading.Thread(target=sample)
    t.start()
    out, err = p.communicate()
    t.join()
    if p.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{err}")
    return time.perf_counter() - start, peak["RssAnon"], peak["VmHWM"], out


def folder_bytes(*dirs):
    return sum(f.stat().st_size for d in dirs for f in pathlib.Path(d).rglob("*") if f.is_file())


class Bench:
    def __init__(self, work, quick):
        self.work, self.quick = work, quick
        self.smelt, self.synth = work / "smelt", work / "synth"
        for out, pkg in (self.smelt, "./cmd/smelt"), (self.synth, "./tools/synth"):
            subprocess.run(["go", "build", "-o", out, pkg], cwd=ROOT, check=True)

    def pool(self, shape, experts, dtype, layers=0):
        pool, part = self.work / shape, self.work / f"{shape}.part"
        if not pool.exists():  # --keep left it
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run([self.synth, "-shape", shape, "-experts", str(experts), "-dtype", dtype, "-layers", str(layers), "-o", part], check=True)
            part.rename(pool)
        return pool / "base", sorted(pool.glob("expert-*"))

    def fuse(self, base, experts, *options, cold=False, rounds=1):
        runs = []
        for _ in range(rounds):
            out = self.work / "fused"
            shutil.rmtree(out, ignore_errors=True)
            if cold:
                drop_caches()
            seconds, anon, _, text = watched([self.smelt, "fuse", "--json", base, *experts, "-o", out, *options])
            result = json.loads(text)
            runs.append({"seconds": seconds, "anon": anon, "sync": result["timing"]["sync"] / 1e9,
                         "ratio": result["parameters"]["output"] / result["parameters"]["base"],
                         "captured": min(result["captured"].values()), "bytes": folder_bytes(out)})
        runs.sort(key=lambda r: r["seconds"])
        return runs[len(runs) // 2]

    def copy(self, base, experts, cold=True):
        """The same bytes: every input read once, the output's written and synced."""
        out, twin = self.work / "fused", self.work / "twin"
        shutil.rmtree(twin, ignore_errors=True)
        if cold:
            drop_caches()
        start = time.perf_counter()
        subprocess.run(["sh", "-c", 'cat "$@" >/dev/null', "sh", *[f for e in experts for f in sorted(e.glob("*.safetensors"))]], check=True)
        read = time.perf_counter() - start
        subprocess.run(["cp", "-r", out, twin], check=True)
        subprocess.run(["sync", "-f", twin], check=True)
        total = time.perf_counter() - start
        shutil.rmtree(twin)
        return {"seconds": total, "read": read, "bytes": folder_bytes(base, *experts) + folder_bytes(out)}

    def verify(self, base, experts):
        if self.quick:
            return
        subprocess.run([self.smelt, "verify", self.work / "fused", base, *experts], check=True, stdout=subprocess.DEVNULL)

    def clip(self):
        base, experts = self.pool("clip-vit-b32", 8, "F32")
        ours = self.fuse(base, experts, "--expert-rank", "32", "--router-rank", "16", rounds=3)
        self.verify(base, experts)
        row = {"what": "eight CLIP-ViT-B/32, float32, rank 32, router 16", "smelt": ours, "peers": {}}
        layers = 2 if self.quick else 12
        for name, full in ("FusionBench, full SVD (its default)", True), ("FusionBench, thin SVD", False):
            env = dict(os.environ, OPENBLAS_CORETYPE="SkylakeX")
            seconds, _, rss, text = watched([sys.executable, ROOT / "bench/fuse/peer.py", base, *experts, "--layers", str(layers)] + (["--full"] if full else []), env)
            measured = json.loads(text.strip().splitlines()[-1])
            row["peers"][name] = {"seconds": measured["seconds"] * 12 / layers, "layers": layers, "rss": rss}
        return row

    def qwen2(self):
        base, experts = self.pool("qwen2-1.5b", 2, "BF16")
        return self.beside_copy("Qwen2-1.5B and two experts, bf16, rank 32", base, experts, "32")

    def mistral(self):
        base, experts = self.pool("mistral-7b", 3, "BF16", 8)
        return [self.beside_copy(f"8 of 32 layers of Mistral-7B and three experts, bf16, rank {r}", base, experts, r) for r in ("32", "128")]

    def beside_copy(self, what, base, experts, rank):
        cold = drop_caches()
        rounds = 1 if self.quick else 3
        ours, copies, ratios = [], [], []
        for i in range(rounds):  # turn by turn, a copy before and after each fusion
            if i == 0:
                self.fuse(base, experts, "--expert-rank", rank)
                copies.append(self.copy(base, experts, cold))
            ours.append(self.fuse(base, experts, "--expert-rank", rank, cold=cold))
            copies.append(self.copy(base, experts, cold))
            ratios.append((copies[-2]["seconds"] + copies[-1]["seconds"]) / 2 / ours[-1]["seconds"])
        self.verify(base, experts)
        ours.sort(key=lambda r: r["seconds"])
        copies.sort(key=lambda r: r["seconds"])
        return {"what": what, "smelt": ours[rounds // 2], "copy": copies[len(copies) // 2], "cold": cold,
                "copy_ratio": statistics.median(ratios), "copy_ratios": ratios}


def mb(n):
    return f"{n / 1e6:.0f} MB" if n < 1e10 else f"{n / 1e9:.1f} GB"


def table(rows):
    lines = ["## Fusing", "", "| fusion | smelt | of it until the disk had it | peak memory, beyond mapped files | beside | ratio |", "|---|---|---|---|---|---|"]
    for row in rows:
        s = row["smelt"]
        head = f"| {row['what']} (×{s['ratio']:.3f}, {100 * s['captured']:.1f} % of the energy) | {s['seconds']:.1f} s | {s['sync']:.1f} s | {mb(s['anon'])} |"
        for name, p in row.get("peers", {}).items():
            note = "" if p["layers"] == 12 else f" (scaled from {p['layers']} of 12 layers)"
            lines.append(f"{head} {name}: {p['seconds']:.0f} s{note}, {mb(p['rss'])} | {p['seconds'] / s['seconds']:.0f} × faster, {s['anon'] / p['rss']:.2f} of the memory |")
        if "copy" in row:
            c = row["copy"]
            cold = "caches dropped" if row["cold"] else "warm"
            lines.append(f"{head} reading the experts and copying the output ({mb(c['bytes'])} in all, {cold}): {c['seconds']:.1f} s | {100 * row['copy_ratio']:.0f} % of copy speed |")
    lines += ["", "`python bench/fuse/run.py --out DIR`", ""]
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--only", default="clip,qwen2,mistral")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--keep", action="store_true", help="leave the checkpoints in DIR/work, and use them if they are there")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    work = a.out / "work" if a.keep else pathlib.Path(tempfile.mkdtemp(dir=a.out))
    work.mkdir(exist_ok=True)
    rows = []
    try:
        bench = Bench(work, a.quick)
        for name in a.only.split(","):
            row = getattr(bench, name)()
            rows += row if isinstance(row, list) else [row]
            print(json.dumps(rows[-1]), flush=True)
            if not a.keep:
                for pool in work.iterdir():
                    if pool.is_dir():
                        shutil.rmtree(pool)
    finally:
        if not a.keep:
            shutil.rmtree(work, ignore_errors=True)
    (a.out / "fuse.json").write_text(json.dumps({"machine": platform.processor() or platform.machine(), "rows": rows}, indent=1) + "\n")
    (a.out / "fuse.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
