"""Open the input that a command names."""

from __future__ import annotations

from tenure.deploy.offline.parquet_source import ParquetSource
from tenure.deploy.offline.source import Source, Wanted, files_of
from tenure.deploy.offline.sql_source import SqlSource
from tenure.deploy.offline.text_source import CsvSource, JsonSource
from tenure.errors import CaseError


def open_files(place: str, wanted: Wanted) -> Source:
    """Open a file, a folder or a glob and check its columns.

    Raises:
        MissingError: nothing is there.
        CaseError: other formats, a missing column, or one of a wrong type.
    """
    form, files = files_of(place)
    if form == "parquet":
        return ParquetSource(files, wanted)
    return CsvSource(files, wanted) if form == "csv" else JsonSource(files, wanted)


def open_query(url: str | None, query: str, key: str | None, wanted: Wanted) -> Source:
    """Open a query and check its columns.

    Raises:
        CaseError: an option is missing, or as `SqlSource` says.
    """
    if url is None:
        raise CaseError("where does the query run? Say --from sqlite:///file or postgresql://…", at="--from")
    if key is None:
        raise CaseError("which column puts the rows in order? Say --key with a unique column", at="--key")
    return SqlSource(url, query, key, wanted)
