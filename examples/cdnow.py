"""Turn a purchase ledger into one row per customer who bought in a month, ready for `hensa score`.

A line of the ledger is one purchase, in four fields between spaces: customer, date (YYYYMMDD), number of CDs and value
in dollars with two decimals, such as `00003 19970330  2   20.76`. The rows are

    customer_id   as in the ledger, with its leading zeros
    orders        days of the month on which the customer bought
    cds           CDs bought
    cents         spent, exactly

The ledger has no order numbers: several lines of one customer on one day may well be parts of one purchase, so all of
them are one order. Lines with a value of 0.00 count like any other.

    python examples/cdnow.py ledger.txt --month 1997-03 -o march.parquet
    hensa score march.parquet -o paid.parquet -p examples/cdnow-loyalty.toml
"""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

SCHEMA = pa.schema({"customer_id": pa.string(), "orders": pa.int32(), "cds": pa.int32(), "cents": pa.int64()})


@dataclass
class Customer:
    days: set[date] = field(default_factory=set)
    cds: int = 0
    cents: int = 0


def purchase(line: str) -> tuple[str, date, int, int]:
    """Customer, day, CDs and cents of one line."""
    customer, day, cds, dollars = line.split()
    if not re.fullmatch(r"[0-9]{8}", day):
        raise ValueError(f"the date {day} is not YYYYMMDD")
    cents = Decimal(dollars) * 100
    if cents != int(cents):
        raise ValueError(f"the value {dollars} is not in whole cents")
    return customer, date.fromisoformat(day), int(cds), int(cents)


def customers(ledger: Iterable[str], month: str) -> pa.Table:
    """One row per customer who bought in the month (YYYY-MM), in the order of their first lines."""
    found: dict[str, Customer] = {}
    for number, line in enumerate(ledger, start=1):
        if not line.strip():
            continue
        try:
            name, day, cds, cents = purchase(line)
        except (ValueError, ArithmeticError) as error:
            reason = f"not a number: {line.strip()}" if isinstance(error, InvalidOperation) else error
            raise ValueError(f"line {number}: {reason}") from None
        if f"{day:%Y-%m}" == month:
            customer = found.setdefault(name, Customer())
            customer.days.add(day)
            customer.cds += cds
            customer.cents += cents
    columns = [
        list(found),
        [len(customer.days) for customer in found.values()],
        [customer.cds for customer in found.values()],
        [customer.cents for customer in found.values()],
    ]
    return pa.table(columns, schema=SCHEMA)


def month(text: str) -> str:
    date.fromisoformat(f"{text}-01")
    return text


def output(text: str) -> Path:
    if not text.endswith((".parquet", ".csv")):
        raise argparse.ArgumentTypeError(f"{text} ends in neither .parquet nor .csv")
    return Path(text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Turn a purchase ledger into one row per customer of a month.")
    parser.add_argument("ledger", type=Path, help="lines of customer, YYYYMMDD, CDs and dollars")
    parser.add_argument("--month", type=month, required=True, metavar="YYYY-MM")
    parser.add_argument("-o", "--output", type=output, required=True, metavar="OUT", help="FILE.parquet or FILE.csv")
    options = parser.parse_args(arguments)
    try:
        with options.ledger.open(encoding="ascii") as ledger:
            rows = customers(ledger, options.month)
        write = pa.parquet.write_table if options.output.suffix == ".parquet" else pa.csv.write_csv
        write(rows, options.output)
    except (OSError, ValueError) as error:
        sys.exit(f"{options.ledger}: {error}")
    print(f"{rows.num_rows:,} customers bought in {options.month}", file=sys.stderr)


if __name__ == "__main__":
    main()
