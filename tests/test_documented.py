from __future__ import annotations

from typing import TYPE_CHECKING

from tests.documented import Command, commands

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """\
# A page

```console
$ not this one
```

## Inside

### First

```console
$ one --with option
what it prints
$ two \\
    --over lines
error: no
exit 2
```

    $ indented is for people

### Second

```console
$ three
```

## After

```console
$ nor this
```
"""


def test_commands_are_those_under_the_heading_in_order_with_their_exit_codes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert commands(page, "Inside") == [
        Command("one --with option", 0),
        Command("two \\\n    --over lines", 2),
        Command("three", 0),
    ]
