"""An outage of a ranking event, from the recorded counts to what everyone is paid.

For a day the newcomers of some referrers were recorded under others. The boards as recorded were published and their
prizes paid; this ranks the corrected counts, tops up the prizes of those who stand higher now, and pays the
compensation of the event file to those who had entered, and once more for each board whose top they stood in as it was
published. Nobody pays anything back.

    python examples/outage.py recorded.csv corrected.csv --event examples/new-year-ranking.toml -o payments.csv

Both files have the columns that the event names. The payments have a row for everyone who is paid:

    referrer_id    (the id column of the event)
    top_up         what the prizes were too low, over all boards
    compensation   the flat sum and the sums of the boards
    points         both
"""

import argparse
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

import hensa


def payments(recorded: pa.Table, corrected: pa.Table, event: hensa.Event) -> pa.Table:
    """What everyone is paid, by id."""
    id_, published = event.id_column, hensa.rank(recorded, event)
    prizes = hensa.restate(published, hensa.rank(corrected, event), id=("board", id_), points="prize")
    print(prizes, file=sys.stderr)
    top_ups = prizes.table.select([id_, "due"]).rename_columns([id_, "top_up"])
    compensation = hensa.compensate(corrected, event, published).select([id_, "points"])
    compensation = compensation.rename_columns([id_, "compensation"])
    both = pa.concat_tables([top_ups, compensation], promote_options="default")  # each null where the other is
    paid = both.group_by(id_).aggregate([("top_up", "sum"), ("compensation", "sum")])
    parts = [pc.fill_null(paid[f"{name}_sum"], 0) for name in ("top_up", "compensation")]
    points = pc.add_checked(*parts)
    table = pa.table([paid[id_], *parts, points], [id_, "top_up", "compensation", "points"])
    return table.filter(pc.greater(points, 0)).sort_by(id_)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Pay what is due after the counts of a ranking event were corrected.")
    parser.add_argument("recorded", type=Path, help="the counts on which the published boards were ranked, as CSV")
    parser.add_argument("corrected", type=Path, help="the right ones, as CSV")
    parser.add_argument("--event", type=Path, required=True, metavar="FILE", help="the rules, in TOML")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.csv")
    options = parser.parse_args(arguments)
    try:
        event = hensa.Event.load(options.event)
        tables = [pyarrow.csv.read_csv(path) for path in (options.recorded, options.corrected)]
        pyarrow.csv.write_csv(payments(*tables, event), options.output)
    except (hensa.HensaError, OSError, pa.ArrowInvalid) as error:
        sys.exit(f"outage.py: {error}")


if __name__ == "__main__":
    main()
