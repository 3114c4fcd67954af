"""``runs``: what lies below a folder, a line for each run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from deepbabysit.babysit.findings import read_findings
from deepbabysit.io.text import printable
from deepbabysit.training.folder import CONFIG


def runs(options: argparse.Namespace) -> int:
    """List the runs below a folder, by name."""
    root = Path(options.folder)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {options.folder!r}; fit(run_dir=...) and `train` make runs")
    found = sorted(path.parent for path in root.rglob(CONFIG))
    for folder in found:
        print(f"{printable(folder)}  {_line(folder)}")
    if not found:
        print(f"no run below {printable(options.folder)}")
    return 0


def _line(folder: Path) -> str:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        parts = [f"{config.get('epochs_done', 0)} of {config['epochs']} epochs"]
        if config.get("best") is not None:
            parts.append(f"best {config['monitor']} {config['best']:.4g} in epoch {config['best_epoch'] + 1}")
        parts.append(printable(config["stopped"]) or "not ended")
        codes = [f.code for f in read_findings(folder) if f.severity != "note"]
    except FileNotFoundError:
        codes = []
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return f"cannot be read: {printable(error)}"
    return ", ".join([*parts, *codes])
