"""Jupyter Server in this image; read by any that starts here, and before a person's own configuration."""

import sys

sys.path.insert(0, "/opt/trtforge/jupyter")

c = get_config()  # type: ignore[name-defined]  # noqa: F821  Jupyter's
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_unauthenticated_access = False
c.ServerApp.jpserver_extensions = {"token_required": True}
