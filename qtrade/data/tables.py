"""A file as a table: text or Parquet, its columns by our names, its cells told by their line when they are wrong."""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from qtrade.data.columns import recognise
from qtrade.errors import DataError
from qtrade.types import Float64Array

_DELIMITERS = (",", ";", "\t", "|")
_MISSING = ["", "-", ".", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "NaT", "null", "NULL", "None", "<NA>"]


@dataclass(frozen=True)
class Place:
    """Where cells are: the name of a file, and whether it has lines or rows; cells are indexed by their number."""

    file: str
    unit: Literal["line", "row"]

    def refusal(self, cells: pd.Series[Any], bad: NDArray[np.bool_], problem: str, *, fix: str) -> DataError:
        """Name the first of the bad cells."""
        first = int(np.argmax(bad))
        others = int(bad.sum()) - 1
        return DataError(
            f"{self.file}, {self.unit} {cells.index[first]}, column '{cells.name}': {str(cells.iloc[first])[:40]!r} "
            f"{problem}",
            why=f"{others} more cells of the column are like it" if others else "",
            fix=fix,
        )


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of a file by our names, indexed by the number of their line or row; and the file's names for them."""

    place: Place
    cells: pd.DataFrame
    theirs: Mapping[str, str]

    def column(self, ours: str) -> pd.Series[Any]:
        """Cells of a column, under the file's name for it."""
        return self.cells[ours].rename(self.theirs[ours])


def read_table(path: Path, columns: Mapping[str, str], delimiter: str | None, decimal: str) -> Table:
    """Read a file.

    Parameters
    ----------
    columns
        The file's names for some of our columns; the others are recognised.
    delimiter, decimal
        The signs between cells, and before decimals, of a text; without a delimiter, the most frequent one of the
        first line.

    Raises
    ------
    DataError
        If it is missing, empty, no table, or a column cannot be found.
    """
    content = _bytes(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        return _parquet(path, content, columns)
    return _text(path, content, columns, delimiter, decimal)


def text_of(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Cells as text without blanks around it."""
    return cells.astype("str").fillna("").str.strip()


def absent(cells: pd.Series[Any]) -> NDArray[np.bool_]:
    """Tell which cells hold nothing."""
    empty = cells.isna()
    if not pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        empty |= text_of(cells).isin(_MISSING)
    return empty.to_numpy(dtype=np.bool_)


def numbers(cells: pd.Series[Any], place: Place, decimal: str) -> Float64Array:
    """Read numbers, with NaN where a cell holds nothing.

    Raises
    ------
    DataError
        If a cell holds something else, or a number without end.
    """
    if pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype):
        values = cells.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        text = text_of(cells)
        missing = text.isin(_MISSING).to_numpy(dtype=np.bool_)
        if decimal == ",":
            text = text.str.replace(".", "?", regex=False).str.replace(",", ".", regex=False)
        values = pd.to_numeric(text.astype(object), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.isnan(values) & ~missing
        if bad.any():
            fix = f"write it like 1234{decimal}5, with no text, currency or thousands sign"
            if decimal == "." and re.fullmatch(r"[+-]?[\d.]*,\d+", text.iloc[int(np.argmax(bad))]):
                fix += "; if the comma is the decimal sign, add --set data.file.decimal=,"
            raise place.refusal(cells, bad, "is not a number", fix=fix)
    endless = np.isinf(values)
    if endless.any():
        raise place.refusal(cells, endless, "is infinite, or too large", fix="correct that cell")
    return values


def no_rows(file: str) -> DataError:
    """Say that a file holds no bars at all."""
    return DataError(f"{file} has no rows below the names of its columns", fix="save the file again, or check --path")


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", fix="check --path") from error
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", why=str(error), fix="check the file and its permissions") from error
    if not content.strip():
        raise DataError(f"{path} is empty", fix="check --path, or save the file again")
    return content


def _parquet(path: Path, content: bytes, columns: Mapping[str, str]) -> Table:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrow = parquet.read_table(BytesIO(content))
            arrow.validate(full=True)  # damaged text would pass until somebody looks at it
            frame = arrow.to_pandas()
            if not isinstance(frame.index, pd.RangeIndex):
                # An index without a name stands for a first column without one.
                frame.index.names = ["" if name is None else name for name in frame.index.names]
                frame = frame.reset_index()
    # What was altered or cut off can end in any exception while pyarrow and pandas put it together.
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{path} cannot be read as Parquet", why=why, fix="save it again") from error
    names = [str(name) for name in frame.columns]
    place = Place(path.name, "row")
    found = recognise(names, columns, place.file)
    if len(frame) == 0:
        raise no_rows(place.file)
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    cells = pd.DataFrame({ours: frame.iloc[:, position] for ours, position in found.items()})
    return Table(place, cells, {ours: names[position] for ours, position in found.items()})


def _text(path: Path, content: bytes, columns: Mapping[str, str], delimiter: str | None, decimal: str) -> Table:
    place = Place(path.name, "line")
    text = _decoded(content, path)
    blank = text[: len(text) - len(text.lstrip("\r\n"))]
    header, _, body = re.split(r"(\r\n|\r|\n)", text[len(blank) :] + "\n", maxsplit=1)
    sign = delimiter or _sniffed(header, decimal)
    try:
        names = next(csv.reader([header], delimiter=sign, skipinitialspace=sign != " "))
    except csv.Error as error:
        raise DataError(f"{place.file} does not begin with names of columns", why=str(error), fix="add them") from error
    if sum(re.fullmatch(r"\s*[-+]?\d+(\.\d*)?\s*", name) is not None for name in names) > 1:
        raise DataError(
            f"{place.file} begins with numbers, not with the names of its columns",
            why=f"its first line is {header[:60]!r}",
            fix="add a line of names above it, as time,open,high,low,close,volume",
        )
    found = recognise(names, columns, place.file)
    if not body.strip():
        raise no_rows(place.file)
    first = len(re.findall(r"\r\n|\r|\n", blank)) + 2
    labels = [str(position) for position in range(len(names))]
    as_text = {labels[found[ours]]: "str" for ours in ("time", "clock", "symbol") if ours in found}
    try:
        with warnings.catch_warnings():
            # pandas would leave out what is too much in the first row, with a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                BytesIO(body.encode()),
                sep=sign,
                decimal=decimal,
                header=None,
                names=labels,
                index_col=False,
                dtype=as_text,
                keep_default_na=False,  # a symbol may be called NA
                na_values={label: _MISSING for label in labels if label not in as_text},
                skip_blank_lines=False,  # rows are told by their lines
                skipinitialspace=sign != " ",
                low_memory=False,
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        raise _ragged(error, len(names), first, place.file) from error
    frame.index = pd.RangeIndex(first, first + len(frame))
    cells = pd.DataFrame({ours: frame[labels[position]] for ours, position in found.items()})
    return Table(place, cells, {ours: names[position].strip() for ours, position in found.items()})


def _decoded(content: bytes, path: Path) -> str:
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise DataError(f"{path} cannot be read", why=str(error), fix="save it as UTF-8") from error
        text = content.decode("latin-1")  # any byte is a letter there, and digits are digits
    if "\0" in text:
        raise DataError(f"{path} is no text", why="it has zero bytes", fix="save it as CSV in UTF-8, or as Parquet")
    return text


def _sniffed(header: str, decimal: str) -> str:
    bare = re.sub(r'"[^"]*"', "", header)
    return max((one for one in _DELIMITERS if one != decimal), key=bare.count)


def _ragged(error: Exception, columns: int, first: int, file: str) -> DataError:
    """Tell which line is not like the others; pandas counts them from `first` on."""
    fix = "correct that line, or name the sign between cells: --set data.file.delimiter=';'"
    counted = re.search(r"in line (\d+), saw (\d+)", str(error))
    if counted:
        line, cells = first - 1 + int(counted[1]), int(counted[2])
        return DataError(f"{file}, line {line} has {cells} cells, and the first line names {columns} columns", fix=fix)
    if isinstance(error, pd.errors.ParserWarning):
        return DataError(f"{file}, line {first} has more cells than the {columns} columns of the first line", fix=fix)
    quoted = re.search(r"EOF inside string starting at row (\d+)", str(error))
    if quoted:
        return DataError(
            f"{file}, line {first + int(quoted[1])} has a quotation mark without its pair", fix="correct that line"
        )
    return DataError(f"{file} cannot be read as CSV", why=str(error).splitlines()[0][:200], fix="save the file again")
