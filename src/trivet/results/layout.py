"""The results database: opened, created and brought to the present layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trivet.databases import Connection, connect, redact
from trivet.databases.dialects import of, path_of
from trivet.errors import QueryError, ResultsError, ResultsOutdated, ResultsTooNew
from trivet.results.statements import migrations, named

Migrations = Sequence[Sequence[str]]


def open_results(url: str, *, root: Path = Path(), known: Migrations | None = None) -> Connection:
    """Connect to the results database; an empty one gets the present layout.

    Args:
        url: A sqlite or postgresql url.
        root: The folder that relative paths start from.
        known: The migrations to know instead of those of this program.

    Raises:
        ResultsError: That kind of database cannot hold results.
        ResultsOutdated: It has an older layout.
        ResultsTooNew: It has a newer one.
        QueryError: It cannot be opened.
        TransientError: It cannot be reached.
    """
    try:
        db = _connect(url, root)
    except QueryError as error:
        raise QueryError(f"[results] url: {error}") from error
    try:
        version, latest = version_of(db), len(_known(db, known))
        if version == 0:
            upgrade(db, known=known)
        else:
            compare_layouts(url, version, latest)
    except BaseException:
        db.close()
        raise
    return db


def check_layout(url: str, *, root: Path = Path()) -> int:
    """Return the version of a results database's layout, 0 if it has none; change nothing.

    Raises:
        ResultsError: It cannot hold results, or its layout is another one than this program's.
        TransientError: It cannot be reached.
    """
    if of(url).name == "sqlite":
        path = path_of(url, root)
        if path is None or not path.exists():
            return 0
    with _connect(url, root) as db:
        version = version_of(db)
        if version:
            compare_layouts(url, version, len(_known(db, None)))
        return version


def upgrade_results(
    url: str, *, root: Path = Path(), known: Migrations | None = None
) -> tuple[int, int]:
    """Bring a results database to the present layout; return its version before and after.

    Raises:
        ResultsTooNew: It has a newer layout already.
    """
    with _connect(url, root) as db:
        before = version_of(db)
        latest = len(_known(db, known))
        if before > latest:
            raise ResultsTooNew(
                f"{redact(url)} has layout {before}, this Trivet knows {latest} at most"
            )
        upgrade(db, known=known)
        return before, latest


def version_of(db: Connection) -> int:
    """Return the version of a database's layout, 0 if it has none."""
    if not db.rows(named("has_layout", db.dialect.name))["n"][0].as_py():
        return 0
    return int(db.rows(named("layout_version", db.dialect.name))["version"][0].as_py() or 0)


def upgrade(db: Connection, *, known: Migrations | None = None) -> None:
    """Apply the migrations that a database lacks, in one transaction."""
    dialect = db.dialect.name
    with db.transaction():
        db.rows(named("lock_layout", dialect))
        db.execute(named("create_layout", dialect))
        version = version_of(db)
        for number, statements in enumerate(_known(db, known)[version:], version + 1):
            for statement in statements:
                db.execute(statement)
            db.execute(named("add_layout_version", dialect), version=number)


def compare_layouts(url: str, version: int, latest: int) -> None:
    """Raise an error that says what to do unless a database has the layout of this program."""
    if version < latest:
        raise ResultsOutdated(
            f"{redact(url)} has layout {version}, this Trivet needs {latest}; "
            "run: trivet results upgrade"
        )
    if version > latest:
        raise ResultsTooNew(
            f"{redact(url)} has layout {version}, this Trivet knows {latest} at most; "
            "upgrade Trivet: pip install --upgrade trivet"
        )


def _known(db: Connection, known: Migrations | None) -> Migrations:
    return migrations(db.dialect.name) if known is None else known


def _connect(url: str, root: Path) -> Connection:
    if not of(url).writable:
        raise ResultsError(
            f"[results] url {redact(url)!r}: results are kept in sqlite:/// or postgresql://; "
            "other databases can be sources"
        )
    return connect(url, root=root, write=True)
