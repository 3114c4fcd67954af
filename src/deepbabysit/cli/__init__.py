"""The command line: ``deepbabysit train | recipe | check | runs | findings | explain | bench | devices | env``."""

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
        description="Train neural networks on NumPy or CuPy arrays. Exit status: 0 done, 1 failed, 2 usage, "
        "3 findings of severity error remain.",
    )
    top.add_argument("--version", action="version", version=f"deepbabysit {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train",
        help="train a network on a known data set or a CSV file",
        description="Train a network with defaults found for the data, score it on a test part beside a dumb baseline, "
        "and save it. Exit status 3: it is saved, and findings of severity error remain.",
    )
    _add_task(train)
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    train.add_argument("--out", metavar="DIR", help="folder of the run (default: a new one below runs/)")
    train.add_argument("--resume", action="store_true",
                       help="go on with the run in --out, given the same data and settings; epochs may be more")
    train.add_argument("--quiet", action="store_true", help="print the result only")

    check = commands.add_parser(
        "check",
        help="look for what is wrong before training",
        description="Look at the data, the splits, the network that `train` would take, its loss and its first "
        "weights, and print what is wrong. Nothing is trained or written. Exit status 3: findings of severity error.",
    )
    _add_task(check)
    check.add_argument("--budget", type=float, default=10.0, metavar="SECONDS", help="time for it (default: 10)")
    check.add_argument("--json", action="store_true", help="print one JSON object per finding")

    recipe = commands.add_parser(
        "recipe",
        help="go from data to a tuned network in six steps, each with its verdict",
        description="Look at the data; skeleton and dumb baselines; overfit; regularize; tune; squeeze. The state is "
        "kept in a folder: the same command goes on where Ctrl-C or --seconds ended it. The test part is used once, "
        "at the end. Exit status 3: all steps are done, and one is not passed.",
    )
    _add_task(recipe)
    recipe.add_argument("--out", metavar="DIR", help="folder of state and model (default: recipes/NAME)")
    recipe.add_argument("--seconds", type=float, help="stop after so many (default: no limit)")
    recipe.add_argument("--trainings", type=int, default=80, help="how many are made at most (default: 80)")
    recipe.add_argument("--quiet", action="store_true", help="print the last line only")

    runs = commands.add_parser(
        "runs", help="list the runs below a folder",
        description="Print one line for each run: epochs, best value, why it ended, what was found.",
    )
    runs.add_argument("folder", metavar="DIR", nargs="?", default="runs", help="where they lie (default: runs)")

    findings = commands.add_parser(
        "findings", help="print what was found in a run",
        description="Print the findings of a run, likeliest cause first. Exit status 3: one is of severity error.",
    )
    findings.add_argument("run", metavar="RUN", help="the run's folder, or its findings.jsonl")
    findings.add_argument("--json", action="store_true", help="print one JSON object per finding")

    explain = commands.add_parser(
        "explain", help="say what a finding code means",
        description="Print what is seen, why it matters, what to do, and the source.",
    )
    explain.add_argument("code", metavar="CODE", nargs="?", help="such as dead_relu; left out: list all codes")

    _add_bench(commands.add_parser(
        "bench",
        help="measure against PyTorch, JAX and the machine's own limits",
        description="Time training steps, kernels, data loading, fit, memory and start-up, each contender in a process "
        "of its own, in turns. All of it takes about 15 minutes, --quick about 3. Exit status 1: a contender failed or "
        "computed something else than the others.",
    ))  # fmt: skip
    gpucheck = commands.add_parser(
        "gpucheck",
        help="check a GPU: is everything right, and how fast is it",
        description="Compare every kernel with its reference, captured steps with their calls and with the CPU, and "
        "measure training steps beside PyTorch and JAX. Exit status 1: no GPU can run, or something is wrong.",
    )
    gpucheck.add_argument("--budget", type=float, default=540.0, metavar="SECONDS", help="time for it (default: 540)")
    gpucheck.add_argument("--json", metavar="FILE", help="where the figures go (default: below benchmarks/results)")
    commands.add_parser("devices", help="list backends and devices, and why one cannot run")
    commands.add_parser("env", help="print versions, threads and machine, for reports")
    return top


def _add_task(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say which data and which network."""
    command.add_argument("data", metavar="NAME|FILE.csv", help="digits, mnist, heart, ... or a table with a header")
    command.add_argument("--target", metavar="COL", help="the column to predict (tables)")
    command.add_argument("--categorical", metavar="A,B", help="columns with categories (tables); guessed if left out")
    command.add_argument("--missing", choices=["drop", "mean"],
                         help="leave rows with missing cells out, or fill them with the training rows' mean (tables)")
    command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
                         help="change a setting, such as epochs=20, hidden=64,32, learning_rate=0.01, dropout=0.2")
    command.add_argument("--seed", type=int, default=0, help="start of all random numbers (default: 0)")


def _add_bench(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is measured."""
    command.add_argument("--quick", action="store_true", help="fewer networks, shorter turns")
    command.add_argument("--cases", nargs="+", metavar="NAME",
                         help="networks, such as worked@64, tiny, '*@32', and single operations, such as 'gelu*'")
    command.add_argument("--parts", nargs="+", metavar="PART",
                         help="of steps, kernels, loading, fit, memory, startup (default: all)")
    command.add_argument("--contenders", nargs="+", metavar="NAME", help="such as ours-replay, torch-fused, jax")
    command.add_argument("--threads", type=int, default=2, help="processors of each contender (default: 2)")
    command.add_argument("--json", metavar="FILE", help="write what pytest-benchmark compare reads")
    command.add_argument("--show", metavar="FILE", help="print the tables of such a file and measure nothing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "train":
            from deepbabysit.cli.train import train

            return train(options)
        if options.command == "recipe":
            from deepbabysit.cli.recipe import recipe

            return recipe(options)
        if options.command == "runs":
            from deepbabysit.cli.runs import runs

            return runs(options)
        if options.command == "bench":
            from deepbabysit.cli.bench import bench

            return bench(options)
        if options.command == "gpucheck":
            from deepbabysit.cli.gpucheck import gpucheck

            return gpucheck(options)
        if options.command in ("check", "findings", "explain"):
            from deepbabysit.cli import babysit

            return {"check": babysit.check, "findings": babysit.findings, "explain": babysit.explain}[options.command](
                options
            )
        from deepbabysit.cli import environment

        return environment.devices() if options.command == "devices" else environment.env()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"deepbabysit: {text}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
