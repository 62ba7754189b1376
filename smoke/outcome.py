"""How a check says that it could not run."""


class Skip(Exception):
    """The check cannot run here; the text says why. It counts as skipped, never as passed."""
