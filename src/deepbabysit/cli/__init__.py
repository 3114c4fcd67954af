"""The command line: ``deepbabysit train | bench | devices | env``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from deepbabysit.cli.usage import UsageError

DONE, FAILED, USAGE = 0, 1, 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    from deepbabysit import __version__

    top = argparse.ArgumentParser(
        prog="deepbabysit",
        description="Train neural networks on NumPy or CuPy arrays. Exit status: 0 done, 1 failed, 2 usage.",
    )
    top.add_argument("--version", action="version", version=f"deepbabysit {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train",
        help="train a network on a known data set or a CSV file",
        description="Train a network with defaults found for the data, score it on a test part beside a dumb baseline, "
        "and save it.",
    )
    train.add_argument("data", metavar="NAME|FILE.csv", help="digits, mnist, heart, ... or a table with a header")
    train.add_argument("--target", metavar="COL", help="the column to predict (tables)")
    train.add_argument("--categorical", metavar="A,B", help="columns with categories (tables); guessed if left out")
    train.add_argument("--missing", choices=["drop", "mean"],
                       help="leave rows with missing cells out, or fill them with the training rows' mean (tables)")
    train.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
                       help="change a setting, such as epochs=20, hidden=64,32, learning_rate=0.01, dropout=0.2")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    train.add_argument("--out", metavar="DIR", help="folder for the model (default: a new one below runs/)")
    train.add_argument("--seed", type=int, default=0, help="start of all random numbers (default: 0)")
    train.add_argument("--quiet", action="store_true", help="print the result only")

    bench = commands.add_parser(
        "bench",
        help="measure against PyTorch, JAX and the machine's own limits",
        description="Time training steps, kernels, data loading, fit, memory and start-up, each contender in a process "
        "of its own, in turns. All of it takes about 15 minutes, --quick about 3.",
    )
    bench.add_argument("--quick", action="store_true", help="fewer networks, shorter turns")
    bench.add_argument("--cases", nargs="+", metavar="NET@BATCH", help="networks, such as worked@64, tiny, '*@32'")
    bench.add_argument("--parts", nargs="+", metavar="PART",
                       help="of steps, kernels, loading, fit, memory, startup (default: all)")
    bench.add_argument("--contenders", nargs="+", metavar="NAME", help="such as ours-replay, torch-fused, jax")
    bench.add_argument("--threads", type=int, default=2, help="processors of each contender (default: 2)")
    bench.add_argument("--json", metavar="FILE", help="write what pytest-benchmark compare reads")
    bench.add_argument("--show", metavar="FILE", help="print the tables of such a file and measure nothing")

    commands.add_parser("devices", help="list backends and devices, and why one cannot run")
    commands.add_parser("env", help="print versions, threads and machine, for reports")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "train":
            from deepbabysit.cli.train import train

            return train(options)
        if options.command == "bench":
            from deepbabysit.cli.bench import bench

            return bench(options)
        from deepbabysit.cli import environment

        return environment.devices() if options.command == "devices" else environment.env()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"deepbabysit: {text}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
