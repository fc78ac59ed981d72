"""Write schemas/TABLE.py for a table of the database, so that `refresh` and `dvc repro` read it, too. Asks nothing.

Says what it guessed: the day by which rows are filed, the user and the key. Reads the catalog and, of the table, its
day column; writes schemas/TABLE.py, schemas/tables.py and params.yaml, all or none. TABLE may also be SCHEMA.TABLE or
the name of a model in schemas/app/. Without TABLE it lists what can be adopted.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from difflib import get_close_matches

from psycopg2.extensions import connection as Connection

from pipeline import source
from pipeline.adopt import contract, files, guess
from pipeline.adopt.choice import Asked, choose, without_index
from pipeline.adopt.found import FoundTable, found_tables, inspecting, reflect
from pipeline.adopt.guess import NONE
from pipeline.adopt.prisma import Model, read_models
from pipeline.core.errors import ContractError, ParamsError, SourceError
from pipeline.core.params import Params, load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.progress import count, printable
from pipeline.postgres.catalog import by_day, check_contract
from pipeline.postgres.target import Relation, Target
from pipeline.views import views
from schemas.table import Table, problems
from schemas.tables import TABLES, chosen


def adopt(paths: Paths, params: Params, name: str, asked: Asked) -> None:
    """Raises ContractError for a table that can't be taken, ParamsError for names that are not there."""
    models = read_models(paths.app)
    with source.connect(params.source, ()) as target, inspecting(target) as (connection, inspector):
        all_ = found_tables(connection)
        one = pick(all_, models, target.schema, name)
        if not files.NAMES.fullmatch(one.name):  # before any code is made of it
            raise refused(one, ["its name has other characters than letters, digits, _ and -"])
        check_readable(one, target)
        (found,) = reflect(connection, inspector, [one])
        out = contract.left_out(found)
        found = found._replace(columns=tuple(column for column in found.columns if column.name not in out))
        if not found.columns:
            raise refused(found, [f"{name}: {why}" for name, why in out.items()] or ["it has no columns"])
        made, said = choose(connection, target, found, model_of(models, found), asked)
        place = files.place_for(paths.schemas, found.name)
        check_free(place, name, asked.force)
        text = contract.written(made, place.constant)
        table = built(text, place)
        if table.time is not None and not found.is_view and not by_day(connection, Relation(found.schema, table)):
            said.append(without_index(found, table.time))
        here = {(one.schema, one.name) for one in all_}
        absent = [t.name for t in chosen(TABLES, params.tables) if (t.schema or target.schema, t.name) not in here]
        check(connection, target, table, found)
        check_name(found, set(params.tables) - set(absent))
    files.write_all(
        {
            place.file: text,
            paths.schemas / "tables.py": files.with_table(paths.schemas / "tables.py", place.file.stem, place.constant),
            paths.params: files.with_name(paths.params, found.name, absent),
        }
    )
    rows = "" if found.rows is None else f", about {count(found.rows, 'row')}"
    print(f"adopt: {found.place} in {target.name}: a {found.kind} of {count(len(found.columns), 'column')}{rows}")
    for line in [*said, *(f"left out: {printable(name)}: {why}" for name, why in out.items())]:
        print(f"adopt: {line}")
    print(f"adopt: wrote {place.file}; {found.name} is in schemas/tables.py and in `tables` of {paths.params}")
    if absent:
        print(f"adopt: taken out of `tables`, since this database does not have them: {', '.join(absent)}")
    print("adopt: next: python -m commands.refresh, then dvc repro")


def pick(tables: Sequence[FoundTable], models: Sequence[Model], schema: str, name: str) -> FoundTable:
    """The table that is meant by its name, by SCHEMA.TABLE or by the name of its model."""
    first, _, last = name.rpartition(".")
    named = [(schema, name), (first, last), *((m.schema or schema, m.table) for m in models if m.name == name)]
    found = {(table.schema, table.name): table for table in tables}
    for place in named:
        if place in found:
            return found[place]
    known = [table.name if table.schema == schema else f"{table.schema}.{table.name}" for table in tables]
    lower = {name.lower(): full for table, full in zip(tables, known, strict=True) for name in (table.name, full)}
    close = [lower[one] for one in get_close_matches(name.lower(), lower, 3)]
    raise ParamsError(
        f"there is no table {printable(name)}" + (f"; there is {', '.join(map(printable, close))}" if close else ""),
        where=f"schema {schema} of DATABASE_URL",
        expected="a table of the database, as TABLE or SCHEMA.TABLE, or a model of schemas/app/",
        next_step="python -m commands.adopt, which lists them",
    )


def model_of(models: Sequence[Model], table: FoundTable) -> Model | None:
    return next((m for m in models if m.table == table.name and m.schema in (None, table.schema)), None)


def check_readable(table: FoundTable, target: Target) -> None:
    if table.readable and not table.hides:
        return
    why = "row security hides rows of it from this role" if table.readable else "this role may not read it"
    raise SourceError(
        f"{table.place}: {why}",
        where=target.name,
        expected="SELECT on it, and no row-level security policy that hides rows",
        next_step=f"GRANT SELECT ON {table.place} TO the role (and BYPASSRLS if it has policies)",
    )


def check_free(place: files.Declared, name: str, force: bool) -> None:
    if place.file.exists() and not force:
        raise ParamsError(
            f"{place.file} declares {name} already",
            where=str(place.file),
            expected="a table that is not declared yet; to read one that is, its name in `tables` of params.yaml",
            next_step=f"python -m commands.adopt {name} --force, which writes the file anew",
        )


def built(text: str, place: files.Declared) -> Table:
    """The table that the text declares."""
    names: dict[str, Table] = {}
    exec(compile(text, str(place.file), "exec"), names)
    return names[place.constant]


def check(connection: Connection, target: Target, table: Table, found: FoundTable) -> None:
    """Raise ContractError unless the table can be exported beside the others, and is what the database has."""
    others = [one for one in TABLES if one.name != table.name]
    reasons = problems((*others, table))
    if reasons:
        raise refused(found, reasons)
    check_contract(connection, target._replace(relations=(Relation(found.schema, table),)))


def check_name(found: FoundTable, read: Collection[str]) -> None:
    """Raise ContractError where the views that `load` makes of the other tables need the name."""
    made = {view.name for view in (views.DAYS, *views.VIEWS) if set(view.needs) <= set(read)}
    if found.name.lower() in made:
        raise refused(found, [f"{found.name} is a view that is made of {views.OF}, which `tables` names, too"])


def refused(table: FoundTable, reasons: Sequence[str]) -> ContractError:
    return ContractError(
        f"{printable(table.place)} can't be adopted: {'; '.join(map(printable, reasons))}",
        where=printable(table.place),
        expected="names and columns that PostgreSQL, Parquet and DuckDB all take",
        next_step="another name in the database, or a view of the table under one",
    )


def listed(paths: Paths, params: Params) -> None:
    """Print every table of the database with what would be guessed, or why it is refused."""
    models = read_models(paths.app)
    known = {table.name for table in TABLES}
    rows = [("table", "rows", "day", "user", "key")]
    with source.connect(params.source, ()) as target, inspecting(target) as (connection, inspector):
        tables = found_tables(connection)
        schemas = sorted({table.schema for table in tables}, key=lambda name: (name != target.schema, name))
        for schema in schemas:
            for table in reflect(connection, inspector, [table for table in tables if table.schema == schema]):
                name = table.name if schema == target.schema else f"{schema}.{table.name}"
                estimate = "" if table.rows is None else f"{table.rows:,}"
                rows.append((printable(name), estimate, *row_of(table, model_of(models, table), known)))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    print(f"adopt: {count(len(rows) - 1, 'table')} in {target.name}; python -m commands.adopt TABLE adopts one")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def row_of(table: FoundTable, model: Model | None, known: set[str]) -> tuple[str, str, str]:
    """Day, user and key, or why it is refused."""
    taken = table._replace(columns=tuple(c for c in table.columns if c.name not in contract.left_out(table)))
    if table.name in known:
        return "", "", "adopted"
    if table.hides or not table.readable:
        return "", "", "refused: this role may not read all of it"
    if not taken.columns or not files.NAMES.fullmatch(table.name):
        return "", "", "refused: its name" if taken.columns else "refused: no columns"
    key = guess.key_of(taken)
    day, user = guess.day_of(taken, model).column, guess.user_of(taken, key).column
    return printable(day or NONE), printable(user or NONE), printable(", ".join(key.all))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.adopt", description=__doc__)
    parser.add_argument("table", metavar="TABLE", nargs="?", help="a table, SCHEMA.TABLE or a model of schemas/app/")
    parser.add_argument("--day", metavar="COLUMN", help=f"by whose UTC day rows are filed; {NONE}: one file for all")
    parser.add_argument("--user", metavar="COLUMN", help=f"the column that names the user; {NONE}: there is none")
    parser.add_argument("--force", action="store_true", help="write a file anew that is there already")
    parser.add_argument("--list", action="store_true", help="list the tables that can be adopted")
    args = parser.parse_args()
    paths = project()
    params = load_params(paths.params)
    if args.list or args.table is None:
        listed(paths, params)
    else:
        adopt(paths, params, args.table, Asked(args.day, args.user, args.force))


if __name__ == "__main__":
    run("adopt", main)
