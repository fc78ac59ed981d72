"""The live table against the contract, before a row is read."""

from __future__ import annotations

import sqlalchemy as sa

from schemas.contract import COLUMNS, TABLE
from stages.shared.errors import ContractError
from stages.source.postgres import Target


def check_contract(connection: sa.Connection, target: Target) -> list[str]:
    """Compare the live table with the contract; returns notices about what only the database knows.

    Raises ContractError that lists every difference, when the table or a column is missing or has another type.
    """
    oid = connection.scalar(
        sa.text(
            "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname = :s AND relname = :t"
        ),
        {"s": target.schema, "t": TABLE},
    )
    if oid is None:
        raise ContractError(
            f"there is no table {TABLE} in schema {target.schema}",
            where=target.name,
            expected=f'the table "{target.schema}"."{TABLE}" that Prisma makes of schemas/schema.prisma',
            next_step="check the database's name and ?schema= in DATABASE_URL; prisma migrate deploy makes the table",
        )
    found = {
        row.name: row
        for row in connection.execute(
            sa.text(
                "SELECT attname AS name, format_type(atttypid, atttypmod) AS type, typtype AS kind, "
                "  ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = atttypid "
                "    ORDER BY enumsortorder) AS labels "
                "FROM pg_attribute JOIN pg_type t ON t.oid = atttypid "
                "WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
            ),
            {"oid": oid},
        )
    }
    differences, notices = [], []
    for column in COLUMNS:
        there = found.pop(column.name, None)
        wanted = f'enum "{column.values}"' if column.kind == "enum" else column.types.postgres
        if there is None:
            differences.append(f"{column.name}: the contract has {wanted}, the database has no such column")
        elif (there.kind == "e") != (column.kind == "enum") or (column.kind != "enum" and there.type != wanted):
            differences.append(f"{column.name}: the contract has {wanted}, the database has {there.type}")
        elif column.kind == "enum":
            known = next(rule.args for rule in column.rules if rule.name == "isin")
            unknown = [label for label in there.labels if label not in known]
            if unknown:
                notices.append(f"{column.name}: values that only the database knows: {', '.join(unknown)}")
    if differences:
        raise ContractError(
            "the table is not what the contract describes\n    " + "\n    ".join(differences),
            where=f'"{target.schema}"."{TABLE}", {target.name}',
            expected="the columns of schemas/contract.py with their types",
            next_step="bring schemas/schema.prisma and schemas/contract.py up to date, or undo the migration",
        )
    if found:
        notices.append(f"columns that only the database knows, not exported: {', '.join(found)}")
    return notices
