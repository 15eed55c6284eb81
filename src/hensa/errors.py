"""What hensa raises: one base class, and the kinds that a caller would catch apart."""


class HensaError(Exception):
    """Base of every error that hensa raises on purpose; its text is one sentence."""


class ProgramError(HensaError):
    """A program (the rules) is not valid; the text names the key and what is allowed."""


class DataError(HensaError):
    """The rows cannot be scored; the text names the column and, where there is one, the row."""


class ColumnError(DataError):
    """A column is not there; the text names those that are; `program` is the name of what reads it, if any."""

    def __init__(self, text: str, program: str = "") -> None:
        super().__init__(text)
        self.program = program
