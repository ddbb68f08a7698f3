"""An output folder with run logs of shards, without networks: masks are empty files."""

import json

from monai_tta.core.record import Case
from monai_tta.pipeline.outcome import Outcome, earlier_outcome
from monai_tta.pipeline.records import Records, RunFacts
from monai_tta.pipeline.run_log import RunLog
from monai_tta.pipeline.shard_records import write_records
from monai_tta.pipeline.shards import Shard

CASE = Case(number=0, network="", method="", head="", learn="", reset="", seed=0, shape=())
NAMES = [f"c{number}" for number in range(12)]


class ShardFolder:
    """Images, and run logs of their shares in one folder for masks; masks are empty files."""

    def __init__(self, root):
        self.out = root / "out"
        self.out.mkdir()
        self.images = [root / f"{name}.nii.gz" for name in NAMES]
        for image in self.images:
            image.write_bytes(image.name.encode())

    def log(self, index=1, count=1, settings=None, images=None, **more):
        images = self.images if images is None else images
        names = [image.name.split(".")[0] for image in images]
        log = RunLog(self.out, images, settings or {"seed": 0}, names=names, shard=Shard(index, count), **more)
        log.open()
        return log

    def records(self, log):
        return Records(self.out, RunFacts(command="", settings={}), len(log.images))

    def do(self, log, numbers, records=None):
        records = records or self.records(log)
        for number in numbers:
            log.begin(number)
            mask = self.out / f"{log.names[number]}_seg.png"
            mask.write_bytes(b"")
            log.done(number, CASE, (mask,))
            outcome = Outcome(log.images[number], (mask,), CASE, number=number, name=log.names[number])
            log.put_on_record(number, records.add(outcome))
        return records

    def finish(self, log):
        records = self.records(log)
        for number in log.of_earlier_run:
            log.put_on_record(number, records.add(earlier_outcome(log, number)))
        return write_records(log, self.do(log, log.order(), records), ended=True)

    def document(self):
        return json.loads((self.out / "records.json").read_text(encoding="utf-8"))

    def left(self):
        return [path.name for path in self.out.iterdir() if path.name.startswith(".")]
