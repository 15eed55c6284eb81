"""`hensa verify`."""

import os
from typing import Annotated

from hensa import audit
from hensa.cli.dataset import verify_files
from hensa.cli.options import piped, piped_each
from hensa.counts import Count
from hensa.errors import HensaError
from hensa.manifest import Manifest
from hensa.terminal import typer

__all__ = ["verify"]


def verify(
    output: Annotated[
        str,
        typer.Argument(metavar="OUT", callback=piped, help="A file or dataset of hensa; - is an Arrow stream."),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="IN",
            callback=piped_each,
            help="Where an input is now; give all that the record names, in its order.",
        ),
    ] = None,
) -> None:
    """Make OUT again from its record: exit code 0 if it is the same.

    The record is in the metadata of Parquet and Arrow files, and in OUT.hensa.json beside others. Inputs are found by
    the names of the record, from here or from where OUT is.

    A dataset, a directory with a manifest, is compared with that and made again from its source, in bounded memory;
    --input names the source, and then the file of a population that is not all in the manifest.
    """
    given = inputs or []
    if os.path.isdir(output):
        verify_files(output, given)
        return
    if [output, *given].count("-") > 1:
        raise typer.BadParameter("standard input can be one file only; name the others")
    if output != "-" and (listed := Manifest.listing(output)) is not None:
        raise HensaError(f"{output}: it is a part of the dataset {listed[0]!r}, which is verified as a whole.")
    kept = audit.Kept.open(output)
    if given and len(given) != len(kept.record.inputs):
        there = Count(len(kept.record.inputs))
        raise typer.BadParameter(f"--input is given {Count(len(given)):time}; {output} has {there:input}")
    for line in kept.verify(given):
        print(line)
