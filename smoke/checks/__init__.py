"""The checks, one a file; `smoke.runner` finds them by name. Add one by adding a file:

NEEDS = ("torch",)            keys of expected.json without which the check does not apply to the image; of an
                              object there, "packages.jupyterlab": its members
TIMEOUT = 60                  seconds (optional; default in smoke.runner)
def check(expected): ...      says what it saw (text or a JSON-able dict), or raises AssertionError or Skip

Each check runs in a process of its own, so it may import, load and crash as it likes.
"""
