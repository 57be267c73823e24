"""An independent SMILE in numpy and float64, and what it says about a fused model.

    reference.py fuse BASE [name=]EXPERT... -o OUT [--expert-rank 32|dense] [--router-rank 16] [--top-k 1]
    reference.py check OUT BASE [name=]EXPERT... [-v]
    reference.py golden [-o testdata/fuse]

check recomputes every fused module of OUT from the published formula with exact
SVDs and compares it with the five steps of docs/format/native.md on the stored
tensors. It exits 1 when a module is worse than its rounding, the gaps of its
spectrum and its certificate allow.
"""

import argparse
import sys

from native import fuse
from sources import Base, experts_of


def rank(text):
    return text if text == "dense" else int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fuse", "check"):
        command = commands.add_parser(name)
        if name == "check":
            command.add_argument("out")
            command.add_argument("-v", "--verbose", action="store_true", help="one line a module")
            command.add_argument("--rows", type=int, default=64, help="random rows a module")
        command.add_argument("base")
        command.add_argument("experts", nargs="+")
        if name == "fuse":
            command.add_argument("-o", "--out", required=True)
            command.add_argument("--expert-rank", type=rank, default=32)
            command.add_argument("--router-rank", type=int, default=16)
            command.add_argument("--top-k", type=int, default=1)
    golden_command = commands.add_parser("golden")
    golden_command.add_argument("-o", "--out")
    options = parser.parse_args()

    if options.command == "golden":
        import golden

        return golden.main(options.out)
    base = Base(options.base)
    experts = experts_of(options.experts, base)
    if options.command == "fuse":
        modules = fuse(base, experts, options.out, lambda m, e: options.expert_rank, options.router_rank, options.top_k)
        print(f"{options.out}: {len(modules)} modules, {len(experts)} experts")
        return 0
    import check

    return check.run(options.out, base, experts, options.rows, options.verbose)


if __name__ == "__main__":
    sys.exit(main())
