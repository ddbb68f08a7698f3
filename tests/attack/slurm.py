"""The array job of docs/many-studies.md under SLURM, two of its tasks struck down: `python -m tests.attack.slurm`.

It starts a cluster of one node in a temporary folder, which needs Debian's packages slurm-wlm and munge and was run as root.
The node claims more processors than the machine may have.
"""

import argparse
import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from monai_tta.pipeline.journal import Journal, records_are_finished
from monai_tta.pipeline.shards import Shard
from tests.attack.arena import finish, launch, save, small_bundle, volume
from tests.attack.many import Tally, broken
from tests.doc_pages import shell_fences

DAEMONS = ("munged", "slurmctld", "slurmd")
SIZE = (26, 24, 22)  # of an image, large enough that a task can be struck while it is at work
START_S = 60
LIMIT_S = 1800
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
JobFileAppend=1
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=40000
PartitionName=all Nodes=ALL Default=YES
"""


class Cluster:
    """A cluster of one node, for as long as it is entered."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def __enter__(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        ports = free_ports(2)
        names = {"host": socket.gethostname(), "user": getpass.getuser(), "folder": self.folder}
        text = CONFIGURATION.format(**names, controller_port=ports[0], node_port=ports[1])
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        try:
            files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
            self._start("munged", "--foreground", "--force", *(f"--{kind}={self.folder / file}" for kind, file in files.items()))
            self._wait((self.folder / "munge.socket").exists)
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D")
            self._wait(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T", check=False))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for daemon in reversed(self.running):
            daemon.terminate()
        for daemon in self.running:
            daemon.wait(60)

    def ask(self, *words, check=True, **named):
        """What a command of SLURM prints."""
        found = subprocess.run(
            list(map(str, words)),
            env=self.environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            **named,
        )
        if check and found.returncode:
            raise RuntimeError(f"{words} ended with {found.returncode}: {found.stderr}")
        return found.stdout

    def environment(self):
        """The variables of a user's shell there: this Python's `monai-tta` is the first one."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def submit(self, script, *words):
        """Submit a script as its users do; the job's number."""
        return self.ask("sbatch", "--parsable", *words, script, cwd=script.parent).strip()

    def wait_for_end(self):
        """Wait until no job waits or runs."""
        self._wait(lambda: not self.ask("squeue", "-h").strip(), LIMIT_S)

    def _start(self, name, *words):
        with (self.folder / f"{name}.said").open("wb") as said:
            command = [found_program(name), *words]
            self.running.append(subprocess.Popen(command, env=self.environment(), stdout=said, stderr=subprocess.STDOUT))

    def _wait(self, has_come, seconds=START_S):
        end = time.monotonic() + seconds
        while not has_come():
            ended = [daemon.args[0] for daemon in self.running if daemon.poll() is not None]
            if ended or time.monotonic() > end:
                said = {path.name: path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.said")}
                raise RuntimeError(f"{ended or 'nothing'} ended; {seconds} s at most; {said}; {self.ask('squeue', check=False)}")
            time.sleep(0.05)


def found_program(name):
    """The path of a program, also of one that only root has on its path; None where there is none."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def free_ports(count):
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def page_script():
    """The array job that the page shows."""
    (script,) = (fence.code for fence in shell_fences() if fence.page == "docs/many-studies.md" and "#SBATCH" in fence.code)
    return script


def scene(folder, cases):
    """Images, the fourth of them damaged, and the page's script for them with a small bundle; its `monai-tta` without options."""
    inside = folder / "in"
    inside.mkdir()
    rng = np.random.default_rng(0)
    for number in range(cases):
        save(inside / f"c{number:04d}.nii.gz", volume(rng, SIZE))
    (inside / "c0003.nii.gz").write_bytes(b"damaged")
    text = page_script()
    for placeholder, path in {
        "hippocampus_mri": small_bundle(folder / "bundle"),
        "SCANS": inside,
        "MASKS": folder / "out",
    }.items():
        assert text.count(placeholder) == 1, placeholder
        text = text.replace(placeholder, str(path))
    script = folder / "segment.sh"
    script.write_text(text, encoding="utf-8")
    words = re.search(r"^monai-tta (run .*?) --workers", text, re.M)[1].split()
    return script, words


def strike(cluster, job, out, blows):
    """Strike tasks of an array, each as soon as its journal says a word; those that were at work then.

    Args:
        cluster: where it runs.
        job: the array's number.
        out: the folder for masks.
        blows: the command and the word, by shard.
    """
    waiting = dict(blows)
    struck = []
    while waiting and cluster.ask("squeue", "-h").strip():
        for shard, (command, word) in list(waiting.items()):
            journal = Journal(out, shard)
            if any(word in line for line in journal.lines()):
                cluster.ask(*command, f"{job}_{shard.index}")
                struck += [shard] if journal.path.exists() and not journal.has_ended() else []
                del waiting[shard]
        time.sleep(0.02)
    return struck


def play(folder, cases):
    """Submit the array, strike two of its tasks, and submit the cancelled one again; what is not as the page says."""
    script, words = scene(folder, cases)
    out = folder / "out"
    count = int(re.search(r"--array=1-(\d+)", script.read_text(encoding="utf-8"))[1])
    names = [f"c{number:04d}" for number in range(cases)]
    cancelled, requeued, *_ = sorted(Shard(1, count).all(), key=lambda shard: -sum(map(shard.holds, names)))
    blows = {cancelled: (["scancel"], "done"), requeued: (["scontrol", "requeue"], "begun")}
    (folder / "slurm").mkdir()
    with Cluster(folder / "slurm") as cluster:
        struck = strike(cluster, cluster.submit(script), out, blows)
        cluster.wait_for_end()
        found = [f"shard {shard} was not at work when it was struck" for shard in blows if shard not in struck]
        found += ["the run is at its end without the task that was cancelled"] if records_are_finished(out) else []
        cluster.submit(script, f"--array={cancelled.index}")
        cluster.wait_for_end()
    reference = folder / "reference"
    note = folder / "said"
    words[words.index("--out") + 1] = str(reference)
    first = finish(launch([*words, "--report"], note), note, limit=LIMIT_S)
    assert first.code == 3, first.said[-2000:]
    tally = Tally(notes=sorted(folder.glob("slurm-*.out")))
    return found + broken(out, reference, tally, cases)


def main():
    """Run the array as the page says, and end with 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=12)
    arguments = parser.parse_args()
    missing = [name for name in ("sbatch", "scancel", "scontrol", "squeue", "sinfo", *DAEMONS) if not found_program(name)]
    if missing:
        print(f"there is no {', '.join(missing)} here: install Debian's slurm-wlm and munge")
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        found = play(Path(name), arguments.cases)
    print(f"{arguments.cases} cases, {time.monotonic() - began:.0f} s", *found or ["no promise is broken"], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
