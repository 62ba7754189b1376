"""The verbs of `python build.py`, a thin file each: read the request, call what does it, show."""
