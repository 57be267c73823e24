"""Runs the benchmarks and puts their tables into docs/benchmarks.md.

    python bench/run.py [PART...] [--within COMMAND] [--work DIR] [--quick]

A part is a section of the page (fuse) or one of its tables (fuse/clip); without
any, all are measured. Only what was measured is replaced on the page, under its
own date and commit, and at once; after a failure the next table comes. The rest of
the page, sections' notes (bench/SECTION/notes.md) and the summary of targets
included, is put together again each time; `page` as the only part does no more
than that.

Each step of a table is a command that prints its rows. What it needs is made
before, by the same command with --prepare. --within runs the command itself,
but not what prepares it, by another: one that keeps a shared machine quiet,
say. --quick takes small sizes and single rounds, to see that all works, and
writes its page into the working folder, which it leaves; otherwise that is a
temporary one (of up to 25 GB) in DIR, /var/tmp by default.
"""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from measure import ROOT, program

PAGE = ROOT / "docs" / "benchmarks.md"

# Sections of the page: titles, and tables with their peers' packages and steps.
SECTIONS = {
    "kernel": ("Kernels", {
        "products": ("numpy torch", [["kernel", "-only", "^(GEMM|bf16)", "-threads", n] for n in "12"]),
        "matvec": ("numpy torch", [["kernel", "-only", "^matrix–vector", "-threads", n] for n in "12"]),
    }),
    "linalg": ("Truncated SVD", {
        "truncated": ("torch", [["linalg", s] for s in ("768x768", "3072x768", "2048x2048", "4096x4096", "14336x4096", "pool")]),
        "full": ("numpy", [["linalg", "full"]]),
    }),
    "fuse": ("Fusing", {
        "clip": ("fusion-bench torch", [["fuse", "clip"]]),
        "disk": ("", [["fuse", "mistral-32"], ["fuse", "mistral-128"], ["fuse", "qwen2-32"]]),
    }),
    "models": ("Models", {
        "passes": ("transformers torch fusion-bench", [["models", t] for t in ("images", "encode", "prompt")]),
        "decode": ("transformers torch fusion-bench", [["models", t] for t in ("decode", "decode8")]),
    }),
    "lora": ("Extracting a LoRA adapter", {"extract": ("mergekit torch", [["lora", "extract"]])}),
    "merge": ("Merging", {"methods": ("mergekit torch", [["merge", "simple_average"], ["merge", "ties"]])}),
    "analyze": ("Analysing", {"layers": ("numpy", [["analyze", "layers"]]), "whole": ("", [["analyze", "whole"]])}),
}
TABLES = {f"{s}/{t}": table for s, (_, tables) in SECTIONS.items() for t, table in tables.items()}


def chosen(parts):
    """The tables that parts name, in the page's order."""
    for p in parts:
        if p not in SECTIONS and p not in TABLES:
            sys.exit(f"bench: no part {p!r}: want one of {', '.join([*SECTIONS, *TABLES])}, or page alone")
    return [t for t in TABLES if not parts or t in parts or t.split("/")[0] in parts]


def command(step, work, quick):
    """A step's command line: a Go program of bench/, or the run.py of a folder."""
    name, *arguments = step
    if name == "kernel":
        return [program(work, "./bench/kernel"), "-python", sys.executable, *arguments, *(["-rounds", "2"] if quick else [])]
    return [sys.executable, ROOT / "bench" / name / "run.py", *arguments, "--work", work, *(["--quick"] if quick else [])]


def measure(table, options, work):
    """Runs the steps of a table and returns its block of the page."""
    rows, remarks, targets = [], [], []
    packages, steps = TABLES[table]
    for step in steps:
        line = command(step, work, options.quick)
        print(f"bench: {table}: {shlex.join(map(str, line))}", file=sys.stderr, flush=True)
        if step[0] != "kernel":
            subprocess.run([*line, "--prepare"], cwd=ROOT, check=True)
            os.sync()
        text = subprocess.run([*shlex.split(options.within), *line], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        for line in filter(None, text.splitlines()):
            to = rows if line.startswith("|") else targets if line.startswith("- ") else remarks
            if line not in to:  # the header, which every step prints
                to.append(line)
    versions = "".join(f"; {p} {importlib.metadata.version(p)}" for p in packages.split())
    stamp = f"`make bench PART={table}`, {datetime.datetime.now(datetime.UTC):%F}, commit {commit()}: {machine()}{versions}."
    return "\n\n".join("\n".join(x) for x in (rows, remarks, targets, [stamp]) if x)


def commit():
    """The commit that is measured, and whether anything but the page differs from it."""
    git = lambda *args: subprocess.run(["git", *args], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--", ".", ":!docs/benchmarks.md")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def machine():
    info = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)", info.read_text(), re.M) if info.exists() else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    go = subprocess.run(["go", "env", "GOVERSION"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return f"{names[0] if names else os.uname().machine}, {os.cpu_count()} cores, {memory:.0f} GiB; {go}"


def blocks(page):
    """The measured blocks of a page by table: what lies between their marks."""
    return dict(re.findall(r"<!-- (\S+) -->\n(.*?)\n<!-- end -->", page, re.S))


def compose(measured):
    """The page of these blocks: summary, then sections with tables and notes."""
    bullets = [(t, line) for t in TABLES for line in measured.get(t, "").splitlines() if line.startswith("- ")]
    missed = [f"- {t.split('/')[0]}: {line[2:]}" for t, line in bullets if line.endswith("**not met**")]
    summary = f"Targets met: {len(bullets) - len(missed)} of {len(bullets)}."
    if missed:
        summary = summary[:-1] + "; not met:\n\n" + "\n".join(missed)
    out = [(ROOT / "bench" / "notes.md").read_text().strip(), summary]
    for section, (title, tables) in SECTIONS.items():
        out.append(f"## {title}")
        out += [f"<!-- {section}/{t} -->\n{measured[f'{section}/{t}']}\n<!-- end -->" for t in tables if f"{section}/{t}" in measured]
        notes = ROOT / "bench" / section / "notes.md"
        if notes.exists():
            out.append(notes.read_text().strip())
    return "\n\n".join(out) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="*")
    p.add_argument("--within", default="", metavar="COMMAND")
    p.add_argument("--work", default="/var/tmp", metavar="DIR")
    p.add_argument("--quick", action="store_true")
    o = p.parse_args()
    os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")  # which OpenBLAS does not choose by itself on CPUs that it does not know
    tables = [] if o.parts == ["page"] else chosen(o.parts)
    work = pathlib.Path(tempfile.mkdtemp(prefix="smelt-bench-", dir=o.work))
    page = work / "benchmarks.md" if o.quick else PAGE
    failed = []
    try:
        for table in tables or [None]:
            try:
                block = {table: measure(table, o, work)} if table else {}
            except subprocess.CalledProcessError as e:
                failed.append(f"bench: {table}: {shlex.join(map(str, e.cmd))}: exit {e.returncode}")
                block = {}
            before = blocks(page.read_text()) if page.exists() else {}
            page.write_text(compose(before | block))
            for left in ("pool", "out"):
                shutil.rmtree(work / left, ignore_errors=True)
    finally:
        if o.quick:
            print(page)
        else:
            shutil.rmtree(work)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
