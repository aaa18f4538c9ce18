"""A real Slurm of its own on this machine: slurmctld, four slurmd, slurmdbd on MariaDB, munge; nothing global.

Everything lies under one folder, on ports of its own, and ends with `stop`. As root, on Debian 12:

    python tests/site/slurm/cluster.py up .slurm      # prints the SLURM_CONF to export
    python tests/site/slurm/cluster.py down .slurm

Four nodes n1-n4 of one CPU. Partitions: `cpu` (all nodes; pre-emption requeues, no grace), `gpu` (n3 and n4, one
`gpu:a100` each; pre-emption cancels after 30 s of grace), `urgent` (all nodes; pre-empts both). Account `lab`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # this file is also a program
from tests.site.slurm import release

NODES = ("n1", "n2", "n3", "n4")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "sbatch", "sacct")
MAX_ARRAY_SIZE = 101
PATIENCE = 4
#: Set in the daemons' environment alone: what `stop` may end.
_MARK = "SHARDSYNTH_TEST_CLUSTER"


def missing_programs() -> list[str]:
    """Programs of a cluster that this machine lacks."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(what: str, check, seconds: float = 30.0, pause: float = 0.1):
    """The first true value of ``check()``; on a loaded machine everything takes several times as long."""
    end = time.monotonic() + PATIENCE * seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE * seconds:.0f} s for {what}")
        time.sleep(pause)


class Cluster:
    """The cluster of one folder; `stop` also ends what another process started there."""

    def __init__(
        self,
        folder: Path,
        *,
        accounting: bool = True,
        task_plugin: str = "task/none",
        nodes: int = 4,
        cpus: int = 1,
        min_job_age: int = 300,
        attached: bool = True,
        settings: str = "",
        partitions: str = "",
    ) -> None:
        self.folder = Path(folder).resolve()
        self.accounting = accounting
        self.task_plugin = task_plugin
        self.nodes = NODES[:nodes]
        self.cpus = cpus
        self.min_job_age = min_job_age
        self.attached = attached  # the daemons end with the process that started them, however that ends
        self.settings = settings  # lines of slurm.conf before the nodes; they win over the lines of this file
        self.partitions = partitions  # further partitions, as lines of slurm.conf
        self.release = release.root()  # None: the Slurm that is installed
        self.conf = self.folder / "slurm.conf"
        self.host = socket.gethostname().split(".")[0]

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which Slurm's commands speak to this cluster."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SQUEUE", "SACCT", _MARK))}
        path = kept.get("PATH", "") + ":/usr/sbin:/sbin"
        if self.release is not None and not path.startswith(f"{self.folder}/bin:"):
            path = f"{self.folder}/bin:{path}"
        return {**kept, "SLURM_CONF": str(self.conf), "PATH": path}

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run one of Slurm's commands; its output."""
        done = subprocess.run(
            arguments,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    # --- start -------------------------------------------------------------------------------------------------------

    def start(self) -> Cluster:
        """Start every daemon and wait until the nodes are idle; leaves nothing running when that fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o755)
        for name in ("log", "state", "spool", "munge"):
            (self.folder / name).mkdir(exist_ok=True)
        if self.release is not None:
            release.link_commands(self.release, self.folder / "bin")
        try:
            self._start_munge()
            ports = free_ports(8)
            self._write_configuration(ports)
            if self.accounting:
                self._start_database(ports[7])
                self._daemon("slurmdbd", "slurmdbd", "-D")
                wait_until("slurmdbd", lambda: self._listening(ports[6]))
                self._add_accounts()
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            wait_until("idle nodes", lambda: self.node_states() == dict.fromkeys(self.nodes, "idle"), 60)
        except BaseException as error:
            logs = self.log_tails()
            self.stop()
            raise RuntimeError(f"the cluster did not start: {error}\n{logs}") from error
        return self

    def _start_munge(self) -> None:
        key = self.folder / "munge" / "munge.key"
        key.write_bytes(os.urandom(128))
        os.chmod(key, 0o400)
        names = {option: self.folder / "munge" / f"munged.{option}" for option in ("pid", "log", "seed")}
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.munge_socket}",
            f"--pid-file={names['pid']}", f"--log-file={names['log']}", f"--seed-file={names['seed']}",
            "--num-threads=10",
        )  # fmt: skip
        wait_until("munged", self.munge_socket.exists)

    @property
    def munge_socket(self) -> Path:
        """Socket of this cluster's own munged."""
        return self.folder / "munge" / "munge.sock"

    def _write_configuration(self, ports: list[int]) -> None:
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} RealMemory=4000"
            + (" Gres=gpu:a100:1" if node in NODES[2:] else "")
            for node, port in zip(self.nodes, ports)
        )
        gpu = (
            "PartitionName=gpu Nodes=n[3-4] PriorityTier=1 PreemptMode=CANCEL GraceTime=30"
            if len(self.nodes) > 3
            else ""
        )
        account = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            account = (
                "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
                f"AccountingStoragePort={ports[6]}\nAccountingStorageEnforce=associations,limits,qos\n"
                f"AccountingStoragePass={self.munge_socket}\n"
                "AccountingStorageTRES=gres/gpu"
            )
        text = f"""ClusterName=shardsynth
SlurmctldHost={self.host}(127.0.0.1)
SlurmctldPort={ports[4]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={self.munge_socket},cred_expire=10
ProctrackType=proctrack/linuxproc
TaskPlugin={self.task_plugin}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
{account}
ReturnToService=2
MpiDefault=none
GresTypes=gpu
SwitchType=switch/none
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool/%n
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.%n.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/log/slurmd.%n.log
SlurmdTimeout=8
SlurmctldTimeout=5
InactiveLimit=0
KillWait=4
MinJobAge={self.min_job_age}
MaxArraySize={MAX_ARRAY_SIZE}
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=DEFAULT MaxTime=UNLIMITED DefMemPerCPU=900
PartitionName=cpu Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
{gpu}
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF
{self.partitions}
"""
        plugins = "" if self.release is None else f"PluginDir={release.plugins(self.release)}\n"
        text = plugins + text
        own = {line.partition("=")[0] for line in self.settings.splitlines()}
        lines = [line for line in text.splitlines() if line.partition("=")[0] not in own]
        self.conf.write_text("\n".join([self.settings, *lines]) + "\n")
        (self.folder / "gres.conf").write_text("NodeName=n[3-4] Name=gpu Type=a100 File=/dev/null\n" if gpu else "")
        dbd = self.folder / "slurmdbd.conf"
        dbd.touch(mode=0o600)
        dbd.write_text(
            f"""AuthType=auth/munge
AuthInfo=socket={self.munge_socket}
DbdHost={self.host}
DbdAddr=127.0.0.1
DbdPort={ports[6]}
SlurmUser=root
PidFile={self.folder}/slurmdbd.pid
LogFile={self.folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[7]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
{plugins}"""
        )

    def _start_database(self, port: int) -> None:
        data = self.folder / "mariadb"
        short = Path(tempfile.mkdtemp(prefix="ss-db-"))  # a socket's path may have 107 characters
        (self.folder / "mariadb.socket").write_text(str(short))
        quick = ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-log-file-size=16M"]
        if not data.exists():
            subprocess.run(
                ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db", *quick],
                env=self.environment, check=True, capture_output=True, timeout=120,
            )  # fmt: skip
        self._daemon(
            "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={short}/s",
            f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={self.folder}/mariadbd.pid",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", *quick,
        )  # fmt: skip
        wait_until("mariadbd", lambda: self._listening(port), 60)
        grant = (
            "CREATE DATABASE IF NOT EXISTS slurm; CREATE USER IF NOT EXISTS 'slurm'@'%' IDENTIFIED BY 'slurm';"
            "GRANT ALL ON slurm.* TO 'slurm'@'%'; FLUSH PRIVILEGES;"
            "CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm';"
            "GRANT ALL ON slurm.* TO 'slurm'@'localhost';"
        )
        self.command("mariadb", "--no-defaults", f"--socket={short}/s", "-e", grant)

    def _add_accounts(self) -> None:
        self.command("sacctmgr", "-i", "add", "cluster", "shardsynth", check=False)
        self.command("sacctmgr", "-i", "add", "account", "lab", "cluster=shardsynth", check=False)
        self.command("sacctmgr", "-i", "add", "user", "root", "account=lab", "cluster=shardsynth", check=False)
        self.command("sacctmgr", "-i", "modify", "user", "root", "set", "defaultaccount=lab", check=False)

    @staticmethod
    def _listening(port: int) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    def start_controller(self) -> None:
        """Start slurmctld and wait for its answer."""
        self._daemon("slurmctld", "slurmctld", "-D")
        wait_until("slurmctld", lambda: "is UP" in self.command("scontrol", "ping", check=False))

    def start_node(self, node: str, *, without: Path | None = None) -> None:
        """Start a node's slurmd; ``without`` is a folder that is empty on this node, as a share that is not mounted."""
        step = [] if self.release is None else ["-d", str(self.folder / "bin" / "slurmstepd")]
        command = ["slurmd", "-D", "-N", node, *step]
        if without is not None:
            hide = f'mount -t tmpfs none "$0" && exec {" ".join(command)}'
            command = ["unshare", "-m", "sh", "-c", hide, str(without)]
        self._daemon(f"slurmd-{node}", *command)

    def _daemon(self, name: str, *command: str) -> None:
        if self.attached:
            command = ("setpriv", "--pdeathsig", "KILL", *command)
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                command, env={**self.environment, _MARK: str(self.folder)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        known = self._pids()
        known[name] = process.pid
        (self.folder / "pids.json").write_text(json.dumps(known))
        time.sleep(0.05)
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended at once: {(self.folder / 'log' / f'{name}.out').read_text()[-2000:]}")

    def _pids(self) -> dict[str, int]:
        try:
            return json.loads((self.folder / "pids.json").read_text())
        except FileNotFoundError:
            return {}

    def log_tails(self, lines: int = 8) -> str:
        """The last lines of every log, for a failure's message."""
        logs = [path for path in sorted((self.folder / "log").iterdir()) if path.stat().st_size]
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) for path in logs
        )

    # --- what tests do to it -----------------------------------------------------------------------------------------

    def node_states(self) -> dict[str, str]:
        """State of every node."""
        lines = self.command("sinfo", "-h", "-N", "-p", "urgent", "-o", "%N %t", check=False).split("\n")
        return dict(line.split() for line in lines if line.strip())

    def reset(self) -> None:
        """Cancel everything and bring every node back."""
        self.command("scancel", "--user=root", check=False)
        for node, state in self.node_states().items():
            if state.rstrip("*") in ("down", "drain", "drng", "unk"):
                self.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        wait_until("idle nodes", lambda: set(self.node_states().values()) == {"idle"}, 60, 0.3)

    def start_soon(self) -> None:
        """Let what was requeued start now: Slurm waits until the old attempt's credential is void."""

        def delayed() -> list[str]:
            lines = self.command("squeue", "-h", "--array", "-t", "PENDING", "-o", "%i %r", check=False).splitlines()
            return [line.split()[0] for line in lines if line.endswith(" BeginTime")]

        with contextlib.suppress(TimeoutError):  # on a loaded machine it may have started by itself already
            found = wait_until("a requeued element", delayed, 4)
            time.sleep(2)  # a credential of the same second counts as revoked, too, and then the element is killed
            for job in found:
                self.command("scontrol", "update", f"jobid={job}", "starttime=now", check=False)

    def stop_controller(self, *, orderly: bool = False) -> None:
        """Kill slurmctld as a crash would, which loses jobs of the last seconds; or orderly, so that it saves them."""
        self._kill("slurmctld", signal.SIGTERM if orderly else signal.SIGKILL)

    def lose_node(self, node: str, *, with_tasks: bool = True) -> None:
        """Stop a node's slurmd and slurmstepd, with what they run (a power cut) or without (a broken network)."""
        self._kill(f"slurmd-{node}", signal.SIGKILL)
        spool = str(self.folder / "spool" / node)
        steps = [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and _command(folder).startswith("slurmstepd") and _holds(folder, spool)
        ]
        tasks = [child for step in steps for child in _descendants(step)] if with_tasks else []
        for process in steps + tasks:  # a slurmstepd that outlives its task says that it was killed
            _signal(process, signal.SIGKILL)

    def _kill(self, name: str, number: signal.Signals) -> None:
        pid = self._pids().get(name)
        if pid and _is_ours(pid, self.folder):
            _signal(pid, number)
            wait_until(f"the end of {name}", lambda: not _is_ours(pid, self.folder), 15)

    def _processes(self) -> set[int]:
        """Every daemon and job of this cluster, and what they started."""
        ours = [int(f.name) for f in Path("/proc").iterdir() if f.name.isdigit() and _is_ours(int(f.name), self.folder)]
        return {*ours, *(child for pid in ours for child in _descendants(pid))}

    # --- stop --------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the cluster's daemons and jobs, and delete the folder."""
        end = time.monotonic() + 10
        while (ours := self._processes()) and time.monotonic() < end:
            for pid in ours:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.1)
        socket_folder = self.folder / "mariadb.socket"
        if socket_folder.exists():
            shutil.rmtree(socket_folder.read_text(), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster in a folder, to which this process and its children speak meanwhile."""
    cluster = Cluster(folder).start()
    os.environ.update(SLURM_CONF=str(cluster.conf), PATH=cluster.environment["PATH"])
    try:
        yield cluster
    finally:
        cluster.stop()


def leave_without_slurm() -> None:
    """End a benchmark that cannot be measured here, saying what is missing."""
    if missing_programs() or os.geteuid() != 0:
        sys.exit(f"not measured: needs root and {', '.join(missing_programs()) or 'nothing else'}")


def _command(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _holds(folder: Path, text: str) -> bool:
    try:
        links = [os.readlink(link) for link in (folder / "fd").iterdir()] + [os.readlink(folder / "cwd")]
    except OSError:
        links = []
    return any(link.startswith(text) for link in links) or text in _unix_sockets_of(folder, text)


def _unix_sockets_of(folder: Path, text: str) -> str:
    """Path of the step's own socket in the node's spool folder, or nothing."""
    try:
        inodes = {
            os.readlink(link)[8:-1] for link in (folder / "fd").iterdir() if os.readlink(link).startswith("socket:[")
        }
    except OSError:
        return ""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[6] in inodes and fields[7].startswith(text):
            return fields[7]
    return ""


def _is_ours(pid: int, folder: Path) -> bool:
    """Whether a living process is one of this cluster's daemons or jobs; only such ones are ever signalled.

    A shell that exported SLURM_CONF is not: jobs have a job's number, too.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    job = f"SLURM_CONF={folder}/slurm.conf".encode() in words and any(w.startswith(b"SLURM_JOB_ID=") for w in words)
    return state != "Z" and (job or f"{_MARK}={folder}".encode() in words)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> None:
    """`up FOLDER` or `down FOLDER`."""
    verb, folder = sys.argv[1], Path(sys.argv[2])
    if verb == "down":
        Cluster(folder).stop()
        print("the cluster is gone")
        return
    absent = missing_programs()
    if absent:
        packages = "slurm-wlm munge slurm-wlm-basic-plugins slurmdbd mariadb-server"
        sys.exit(f"not here: {', '.join(absent)}; apt-get install {packages}")
    started = time.monotonic()
    cluster = Cluster(folder, attached=False).start()
    print(f"four nodes are idle after {time.monotonic() - started:.0f} s; now: export SLURM_CONF='{cluster.conf}'")


if __name__ == "__main__":
    main()
