"""Two hosts on one machine: each has its own network, processes, name, /etc/hosts and /dev/shm, and
a cable to a switch that leads to the other and nowhere else. The file system is one, as in a
cluster whose machines share a folder.

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
BRIDGE = "bridge"  # in the switch
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
    probe = ["unshare", *NAMESPACES, "--fork", "ip", "link", "add", CABLE, "type"]
    try:
        for kind in ("veth", "bridge"):
            tried = subprocess.run([*probe, kind], capture_output=True, text=True, timeout=60)
            if tried.returncode:
                return f"two hosts need namespaces and a network device {kind}: {tried.stderr}"
    except FileNotFoundError as error:
        return f"two hosts need util-linux and iproute2: {error}"
    return ""


@dataclass
class Host:
    """A host of this ``number``. What its processes write has a group of its own, so that a file
    tells which host wrote it. ``environment`` is that of all its commands.
    """

    number: int  # 0: the switch
    environment: dict[str, str] = field(default_factory=dict)
    switch: "Host | None" = None
    power: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"10.83.0.{self.number}"

    @property
    def port(self) -> str:
        """Where its cable ends in the switch."""
        return f"port{self.number}"

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
        if self.switch is not None:
            self._connect()

    def _connect(self) -> None:
        with suppress(subprocess.CalledProcessError):  # the old cable goes with its other end
            self.switch.network("link", "delete", self.port)
        to = ["peer", "name", CABLE, "netns", str(self.first_process)]
        self.switch.network("link", "add", self.port, "type", "veth", *to)
        self.switch.network("link", "set", self.port, "master", BRIDGE, "up")
        self.network("address", "add", f"{self.address}/24", "dev", CABLE)
        self.network("link", "set", CABLE, "up")

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
            self.switch.network("link", "set", self.port, "down")
        self.end()

    def end(self) -> None:
        if self.power is not None:
            self.power.kill()
            self.power.communicate()


@contextmanager
def two_hosts(**environment: str) -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other; afterwards nothing of them is left."""
    switch = Host(0)
    hosts = Host(1, environment, switch), Host(2, environment, switch)
    try:
        switch.boot()
        switch.network("link", "add", BRIDGE, "type", "bridge")
        switch.network("link", "set", BRIDGE, "up")
        for host in hosts:
            host.boot()
        yield hosts
    finally:
        for host in (*hosts, switch):
            host.end()
