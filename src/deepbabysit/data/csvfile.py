"""Reading a CSV or TSV file into cells of text, distrusting the file: every fault gets its line number."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deepbabysit.errors import nearest

# Caps against hostile or mistaken files. The csv module itself refuses fields above 131072 characters.
MAX_BYTES = 1 << 30
MAX_COLUMNS = 100_000
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class Cells:
    """A parsed file: column names, stripped cells row by row, and the line each row begins on (from 1)."""

    name: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]


def plain(text: str, limit: int = 60) -> str:
    """Make text from a file safe to print: no control characters, not endless."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def read_cells(path: str | os.PathLike[str], delimiter: str | None = None, encoding: str = "utf-8-sig") -> Cells:
    """Parse a file with a header line; raise with the line number where it is no table."""
    file = Path(path)
    _check_file(file)
    import csv

    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] | None = None
    try:
        with open(file, encoding=encoding, newline="") as text:
            delimiter = _delimiter(file, text.read(1 << 16), delimiter)
            text.seek(0)
            reader = csv.reader(text, delimiter=delimiter, strict=True, skipinitialspace=True)
            line = 1
            for record in reader:
                begins, line = line, reader.line_num + 1
                if not record or (len(record) == 1 and not record[0].strip()):
                    continue  # a blank line
                if header is None:
                    header = _header(file, [cell.strip() for cell in record])
                else:
                    rows.append([cell.strip() for cell in record])
                    lines.append(begins)
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {reader.line_num}: not valid CSV ({error}); look for an unclosed quote"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not {encoding} text: byte 0x{error.object[error.start]:02x} cannot be decoded; "
            f"say encoding='latin-1' (or what it was written in), or save it as UTF-8"
        ) from error
    if header is None:
        raise ValueError(f"{file} holds only blank lines; a table needs a header line and rows")
    if not rows:
        raise ValueError(f"{file} has a header with {len(header)} columns but no rows; give at least one row of data")
    _check_ragged(file, header, rows, lines)
    return Cells(file.name, header, rows, lines)


def _check_file(file: Path) -> None:
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; expected a CSV file")
    if not file.exists():
        raise FileNotFoundError(f"no file {file}; {_nearby(file)}")
    size = file.stat().st_size
    if size == 0:
        raise ValueError(f"{file} is empty (0 bytes); a table needs a header line and rows")
    if size > MAX_BYTES:
        raise ValueError(f"{file} has {size} bytes; a CSV may have {MAX_BYTES}. Load it in pieces into an array")
    with open(file, "rb") as raw:
        head = raw.read(4096)
    for magic, kind in ((b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip or Excel"), (b"PAR1", "Parquet")):
        if head.startswith(magic):
            raise ValueError(f"{file} is a {kind} file, not CSV text; unpack or export it first")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{file} is UTF-16 text; save it as UTF-8")
    if b"\0" in head:
        raise ValueError(f"{file} holds zero bytes: it is binary, not CSV text")


def _nearby(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    with os.scandir(folder) as entries:
        names = [entry.name for _, entry in zip(range(2000), entries, strict=False) if entry.is_file()]
    close = nearest(file.name, names) or sorted(n for n in names if n.lower().endswith((".csv", ".tsv")))[:5]
    if close:
        return f"in {folder} there is: {', '.join(plain(name) for name in close)}"
    return f"{folder} holds no CSV file; the path is taken from the current folder {Path.cwd()}"


def _delimiter(file: Path, start: str, given: str | None) -> str:
    """Choose among comma, semicolon and tab: the one that cuts the first lines most evenly, then most finely."""
    if given is not None:
        if len(given) != 1 or given in '"\r\n':
            raise ValueError(f"delimiter must be one character such as ',' or ';', got {given!r}")
        return given
    import csv

    lines = start.splitlines(keepends=True)[:50]
    if len(start) == 1 << 16 and len(lines) > 1:
        lines = lines[:-1]  # the last one may be cut off
    best, best_score = ",", (0.0, 0)
    for candidate in DELIMITERS:
        try:
            widths = [len(record) for record in csv.reader(lines, delimiter=candidate, skipinitialspace=True) if record]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        score = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
        if score > best_score:
            best, best_score = candidate, score
    return best


def _header(file: Path, header: list[str]) -> list[str]:
    if len(header) > MAX_COLUMNS:
        raise ValueError(f"{file} has {len(header)} columns; the limit is {MAX_COLUMNS}")
    if len(header) < 2:
        tried = ", ".join(DELIMITERS.values())
        raise ValueError(
            f"{file} has a single column {plain(header[0])!r} (tried {tried}); "
            f"a table needs a target and at least one input; say delimiter=... if it is another character"
        )
    if all(_looks_numeric(cell) for cell in header if cell) and any(header):
        raise ValueError(
            f"{file} begins with numbers ({plain(', '.join(header[:4]))}), not with column names; add a header line"
        )
    named = [cell or f"(column {i + 1})" for i, cell in enumerate(header)]
    seen: dict[str, int] = {}
    for i, cell in enumerate(named):
        if cell in seen:
            raise ValueError(
                f"{file} names two columns {plain(cell)!r} (columns {seen[cell] + 1} and {i + 1}); rename one of them"
            )
        seen[cell] = i
    return named


def _looks_numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_ragged(file: Path, header: list[str], rows: list[list[str]], lines: list[int]) -> None:
    wrong = [i for i, row in enumerate(rows) if len(row) != len(header)]
    if wrong:
        told = ", ".join(f"line {lines[i]} has {len(rows[i])}" for i in wrong[:5])
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{file}: the header has {len(header)} columns, but {told}{more}; "
            f"fix these lines (a cell with a delimiter inside needs quotes)"
        )
