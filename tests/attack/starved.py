"""Ways to be short of memory in the middle of a run."""

import os
import signal
import time
from pathlib import Path

from tests.attack.arena import finish, launch


def short(words, folder, rng, whole):
    """So little memory that some of it fails; the limit is on address space. How Python itself ends then is up to it (it
    may wait for ever for a thread that could not begin, or tell of what it could not tidy up): what counts is what is left."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = now + int(rng.integers(40, 100)) * 2**20
    return finish(launch(words, folder / "said", memory=limit), folder / "said", limit=30)


def failing(words, folder, rng, whole):
    """Memory that does not suffice for adapting some images, and then for the process: the system's killer ends it."""

    def before():
        from monai_tta.inference.episode import Episode
        from monai_tta.pipeline import segment as module

        check_input_file, learn = module.check_input_file, Episode._learn
        last, starved = int(rng.integers(3, 6)), set(rng.permutation(6)[:3].tolist())

        def deadly(path):
            if path.name == f"scan{last}.nii.gz":
                time.sleep(0.3)  # the image before it is answered meanwhile
                os.kill(os.getpid(), signal.SIGKILL)
            check_input_file(path)

        def hungry(episode, windows):
            if episode.number in starved:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes.")
            learn(episode, windows)

        module.check_input_file, Episode._learn = deadly, hungry

    return finish(launch(words, folder / "said", before=before), folder / "said")
