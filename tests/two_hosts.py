"""Two hosts on one machine: each has its own network, processes, name, /etc/hosts and /dev/shm, and
a cable leads from one to the other and nowhere else. The file system is one, as in a cluster whose
machines share a folder.

A host is a set of Linux namespaces that no name keeps: they are there as long as its first process
is, and that ends when its standard input does. So nothing is left of a host that is let go or
killed, or whose Python is.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

NAMESPACES = ["--net", "--pid", "--mount", "--uts", "--ipc"]
CABLE = "eth0"  # its end in each host
BIN = Path(sys.executable).parent
# As Debian writes /etc/hosts, a machine's own name leads to itself and to nobody else.
FIRST_PROCESS = """
set -e
ip link set lo up
hostname $NAME
mount -t tmpfs tmpfs /dev/shm
printf "127.0.0.1 localhost\\n127.0.1.1 $NAME\\n" > /dev/shm/hosts
mount --bind /dev/shm/hosts /etc/hosts
echo up
read end || true
"""


def why_not() -> str:
    """Why there can be no hosts here; "" where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "two hosts need Linux and root, for namespaces"
    probe = ["unshare", *NAMESPACES, "--fork", "ip", "link", "add", CABLE, "type", "veth"]
    try:
        tried = subprocess.run(probe, capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        return f"two hosts need util-linux and iproute2: {error}"
    return f"no namespaces or cables here: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass
class Host:
    """A host of this ``number``. What its processes write has a group of its own, so that a file
    tells which host wrote it. ``environment`` is that of all its commands.
    """

    number: int
    environment: dict[str, str] = field(default_factory=dict)
    power: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"10.83.0.{self.number}"

    @property
    def group(self) -> int:
        return 61000 + self.number

    def boot(self) -> None:
        self.power = subprocess.Popen(
            ["unshare", *NAMESPACES, "--mount-proc", "--fork", "--kill-child"]
            + ["sh", "-c", FIRST_PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NAME": f"host{self.number}"},
        )
        assert self.power.stdout.readline() == "up\n", "the host does not start"

    @property
    def first_process(self) -> int:
        """As the machine numbers it."""
        children = Path(f"/proc/{self.power.pid}/task/{self.power.pid}/children")
        return int(children.read_text())

    def network(self, *command: str) -> None:
        """Run ``ip`` in its network."""
        at = ["nsenter", f"--target={self.first_process}", "--net", "ip"]
        subprocess.run([*at, *command], check=True, capture_output=True, timeout=60)

    def start(self, command: str, log: Path, **environment: str) -> subprocess.Popen:
        """Start a line of shell on the host; what it says goes to the end of ``log``."""
        with open(log, "a") as said:
            return subprocess.Popen(
                ["nsenter", f"--target={self.first_process}", *NAMESPACES, "bash", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                group=self.group,
                env=os.environ
                | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TMPDIR": "/dev/shm"}
                | self.environment
                | environment,
            )

    def has_written(self, path: Path) -> bool:
        return path.stat().st_gid == self.group

    def lose(self, silently: bool = False) -> None:
        """Kill all its processes. The others hear of closed connections, unless it is done
        ``silently``, as when the power fails: then the cable is pulled first.
        """
        if silently:
            self.network("link", "set", CABLE, "down")
        self.power.kill()
        self.power.communicate()


def connect(first: Host, second: Host) -> None:
    """Lay a new cable between two hosts that run."""
    with suppress(subprocess.CalledProcessError):  # the old one goes with its other end
        first.network("link", "delete", CABLE)
    to = ["name", CABLE, "netns", str(second.first_process)]
    first.network("link", "add", CABLE, "type", "veth", "peer", *to)
    for host in (first, second):
        host.network("address", "add", f"{host.address}/24", "dev", CABLE)
        host.network("link", "set", CABLE, "up")


@contextmanager
def two_hosts(**environment: str) -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them; afterwards nothing of them is left."""
    hosts = Host(1, environment), Host(2, environment)
    try:
        for host in hosts:
            host.boot()
        connect(*hosts)
        yield hosts
    finally:
        for host in hosts:
            if host.power is not None:
                host.power.kill()
                host.power.communicate()
