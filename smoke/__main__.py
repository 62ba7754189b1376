"""`python /opt/smoke`: run the checks that apply to this image, one JSON object a line on stdout."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # this folder is the package `smoke`, whatever the working directory

from smoke.runner import main  # noqa: E402

sys.exit(main(sys.argv[1:], HERE))
