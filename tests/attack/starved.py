"""Runs that are short of memory."""

import os
import signal
import time
from pathlib import Path

from tests.attack.arena import finish, launch


def short(words, folder, rng, whole):
    """Limit the address space so far that some allocations fail.

    How Python itself ends then is not checked: it may wait for ever for a thread that could not start, or report what it could
    not tidy up. What it leaves behind is checked.
    """
    now = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = now + int(rng.integers(40, 100)) * 2**20
    return finish(launch(words, folder / "said", memory=limit), folder / "said", limit=30)


def failing(words, folder, rng, whole):
    """Fail to adapt to some images for want of memory; then the system kills the process."""

    def before():
        from monai_tta.inference.adapter import Adapter
        from monai_tta.pipeline import load_image as module

        check_input_file = module.check_input_file
        learn = Adapter.learn
        last = int(rng.integers(3, 6))
        starved = set(rng.permutation(6)[:3].tolist())

        def deadly(path):
            if path.name == f"scan{last}.nii.gz":
                time.sleep(0.3)  # meanwhile the image before it is segmented
                os.kill(os.getpid(), signal.SIGKILL)
            check_input_file(path)

        def hungry(adapter, windows):
            if adapter.request.number in starved:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes.")
            learn(adapter, windows)

        module.check_input_file = deadly
        Adapter.learn = hungry

    return finish(launch(words, folder / "said", before=before), folder / "said")
