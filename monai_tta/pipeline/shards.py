"""Which images of a run are one process's share: said by ``--shard 3/16`` or by torchrun, and stable when images are added."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """One of several shares of a run's images.

    An image belongs to the share that a hash of its name says. So it stays there whatever images are added or removed, and is
    in exactly one share even where processes began with different lists. Shares are not equal: of n images in N shares, each
    holds n / N, give or take the square root of that.

    Args:
        index: which one, from 1 to ``count``.
        count: how many there are; 1 for a run that does all images.

    Raises:
        ValueError: for an index that there is not.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f"shard {self.index}/{self.count}: the first number is from 1 to the second")

    @property
    def is_whole(self) -> bool:
        """Whether it is all images."""
        return self.count == 1

    def __str__(self) -> str:
        """As it is given: "3/16"."""
        return f"{self.index}/{self.count}"

    @property
    def in_file_names(self) -> str:
        """How the hidden files of this share are told apart: "" for all images, else "3-of-16"."""
        return "" if self.is_whole else f"{self.index}-of-{self.count}"

    def all(self) -> list[Shard]:
        """All shares of which this is one."""
        return [Shard(index, self.count) for index in range(1, self.count + 1)]

    def holds(self, name: str) -> bool:
        """Whether an image is in this share.

        Args:
            name: of the image, unique among all images of the run.
        """
        return int(hashlib.sha256(os.fsencode(name)).hexdigest()[:15], 16) % self.count == self.index - 1


WHOLE = Shard()


def parse_shard(text: str) -> Shard:
    """A share as it was given: "3/16".

    Raises:
        ValueError: for anything else.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if found is None or not int(found[2]):
        raise ValueError(f"--shard is K/N, e.g. 3/16 for the third of sixteen shares, found {text!r}")
    index, count = int(found[1]), int(found[2])
    if not 1 <= index <= count:
        raise ValueError(f"--shard {text}: K counts from 1 to N; a SLURM array needs --array=1-N")
    return Shard(index, count)


def shard_of_torchrun(environment: Mapping[str, str]) -> Shard | None:
    """The share of a process that torchrun started: RANK + 1 of WORLD_SIZE; None where there is one process only.

    Args:
        environment: the process's variables.

    Raises:
        ValueError: for variables that are no such numbers.
    """
    rank, world = environment.get("RANK"), environment.get("WORLD_SIZE")
    if rank is None or world is None or world.strip() == "1":
        return None
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ValueError(f"RANK={rank} and WORLD_SIZE={world} in the environment are no process of torchrun: unset them")
    return Shard(int(rank) + 1, int(world))
