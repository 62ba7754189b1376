"""Start sshd for the image's user: keys alone, and host keys that are made when it first starts.

AUTHORIZED_KEYS, or the file that AUTHORIZED_KEYS_FILE names (default: ~/.ssh/authorized_keys), holds public
keys, one a line. Host keys and what sshd is told lie in ~/.sshd, or where SSHD_FOLDER says; they stay if that
is a volume. Sessions have the environment that the container was started with. Source: sshd_config(5).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = Path(__file__).with_name("sshd_config")
OWN = frozenset({
    "AUTHORIZED_KEYS", "AUTHORIZED_KEYS_FILE", "HOME", "HOSTNAME", "LOGNAME", "OLDPWD", "PWD", "SHELL",
    "SHLVL", "SSHD_FOLDER", "TERM", "USER", "_",
})  # fmt: skip
"""Variables of this process alone: a session has its own, or no use for them."""

WRONG_REQUEST, LACK = 2, 3


def refuse(problem: str, code: int, *lines: str) -> NoReturn:
    """End with `problem` and what to do."""
    print("\n".join([f"error: {problem}", *(f"  {line}" for line in lines), f"exit {code}"]), file=sys.stderr)
    sys.exit(code)


def given_keys(environment: Mapping[str, str], home: Path) -> list[str]:
    """The lines with public keys that `environment` or the file gives. Ends where there is none."""
    file = Path(environment.get("AUTHORIZED_KEYS_FILE", home / ".ssh" / "authorized_keys"))
    if "AUTHORIZED_KEYS" in environment:
        text, origin = environment["AUTHORIZED_KEYS"], "AUTHORIZED_KEYS"
    else:
        origin = str(file)
        try:
            text = file.read_text(encoding="utf-8") if file.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            refuse(f"{origin} cannot be read: {error}", LACK, "next  let it be readable for user 1000")
    if "PRIVATE KEY" in text:
        refuse(f"{origin} holds a private key", WRONG_REQUEST, "next  give the public one: id_ed25519.pub")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if not lines:
        refuse(
            f"there is no key that may log in: {origin} has none",
            WRONG_REQUEST,
            "rule  this image knows no passwords",
            'next  docker run -p 2222:2222 -e AUTHORIZED_KEYS="$(cat ~/.ssh/id_ed25519.pub)" IMAGE',
            "next  or mount a file with public keys at /home/trt/.ssh/authorized_keys",
        )
    for line in lines:
        check = ["ssh-keygen", "-l", "-f", "-"]
        if subprocess.run(check, input=line + "\n", capture_output=True, text=True, check=False).returncode:
            refuse(
                f"{origin} has a line that is no public key: {line[:40]}", WRONG_REQUEST, "next  correct it"
            )
    return lines


def host_key(folder: Path) -> Path:
    """The host's key in `folder`, made now if it is not there."""
    key = folder / "ssh_host_ed25519_key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    return key


def environment_line(environment: Mapping[str, str]) -> str:
    """The line of sshd_config that gives sessions `environment`, but for what has more than one line."""
    given = {name: value for name, value in environment.items() if name not in OWN and value.isprintable()}
    # Debian's /etc/profile sets PATH anew; profile.d/trtforge.sh takes it from here.
    given["TRTFORGE_PATH"] = environment["PATH"]
    return "SetEnv " + " ".join(_quoted(f"{name}={value}") for name, value in sorted(given.items()))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def main(arguments: list[str]) -> None:
    """Become sshd."""
    home = Path.home()
    lines = given_keys(os.environ, home)
    folder = Path(os.environ.get("SSHD_FOLDER", home / ".sshd"))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # of this user alone, so sshd need not look at the folders above it (StrictModes)
        os.umask(0o077)
        key, config, keys = host_key(folder), folder / "sshd_config", folder / "authorized_keys"
        keys.write_text("\n".join(lines) + "\n", encoding="utf-8")
        own = [f"HostKey {key}", f"AuthorizedKeysFile {keys}", environment_line(os.environ)]
        config.write_text("\n".join([*own, CONFIG.read_text(encoding="utf-8")]), encoding="utf-8")
    except (OSError, subprocess.CalledProcessError) as error:
        refuse(
            f"the host key cannot be kept in {folder}: {error}",
            LACK,
            "next  let the folder belong to user 1000, or mount the volume at /home/trt",
        )
    os.umask(0o022)
    told = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True, check=True)
    said = f"ssh: {len(lines)} key(s) may log in as trt, port 2222; host key {told.stdout.strip()}"
    print(said, file=sys.stderr, flush=True)
    os.execv("/usr/sbin/sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", str(config), *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
