"""What strangers' servers say, made fit to be written down and shown."""


def printable(text: str, longest: int) -> str:
    """The beginning, with what is no character to be seen replaced: a database takes no NUL."""
    shown = text[:longest]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in shown)
