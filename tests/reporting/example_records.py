"""Records of a made-up run that has a case of every kind."""

SETTINGS = {
    "bundle": "hippocampus_mri",
    "checkpoint": "model.pt",
    "method": "GraTa(steps=3)",
    "guards": [],
    "fix": False,
    "weights_hash": "0a1b",
    "seed": 0,
    "budget": None,
}

STARTS = ["2026-11-30T23:58:07+01:00", "2026-12-01T00:10:44+01:00"]


def quality(*expected):
    return [
        {"name": name, "structure": number, "dice": dice, "low": low, "high": high, "spread": 0.05}
        | {"nsd": 0.97, "nsd_low": 0.93, "nsd_high": 0.99, "ranking": 0.9}
        for number, (name, dice, low, high) in enumerate(expected, 1)
    ]


def entry(number, name, status="adapted", **changes):
    case = {
        "number": number,
        "name": name,
        "masks": [] if status == "failed" else [f"{name}_seg.nii.gz"],
        "status": status,
        "in_words": "adapted on 4 windows",
        "reason": None,
        "error": None,
        "notes": [],
        "labels": [],
        "labels_note": None,
        "seconds": 1.5 + number,
    }
    if status != "failed":
        step = {"losses": {"entropy": 0.3}, "cosine": None, "lr": 1e-4, "notes": {}}
        case |= {
            "method": "GraTa(steps=3)",
            "n_windows": 4,
            "weight_distance": 0.02,
            "seed": 0,
            "precision": "exact",
            "input_check": None,
            "input_checked": True,
            "restarted": None,
            "quality": None,
            "quality_unadapted": None,
            "quality_note": None,
            "labels": [{"name": "anterior", "value": 1, "voxels": 1200, "ml": 1.2}],
            "steps": [step | {"losses": {"entropy": 0.3 - 0.05 * k}, "cosine": 0.2 * k} for k in range(3)],
        }
    return case | changes


def document(anonymous=False, finished=True, with_quality=True):
    good = quality(("anterior", 0.91, 0.86, 0.95), ("posterior", 0.9, 0.84, 0.94))
    cases = [
        entry(0, "good", quality=good, quality_unadapted=quality(("anterior", 0.7, 0.5, 0.8), ("posterior", 0.9, 0.8, 0.9))),
        entry(1, "doubtful", quality=quality(("anterior", 0.82, 0.7, 0.9), ("posterior", 0.9, 0.84, 0.94))),
        entry(2, "bad <b>name</b>", quality=quality(("anterior", 0.4, 0.2, 0.6), ("posterior", 0.9, 0.84, 0.94))),
        entry(3, "mirrored", quality=good, input_check="not corrected: front-back mirrored"),
        entry(4, "unread", "failed", in_words="failed: it ends early", error="EOFError: it ends early"),
        entry(
            5, "plain", "unadapted", reason="expects no gain", in_words="unadapted answer: expects no gain", input_checked=False
        ),
    ]
    if anonymous:
        cases = [{key: value for key, value in case.items() if key not in ("name", "masks")} for case in cases]
    if not with_quality:
        cases = [case | ({"quality": None, "quality_unadapted": None} if case["status"] != "failed" else {}) for case in cases]
    run = {
        "command": "monai-tta run hippocampus_mri IMAGES --out OUT",
        "command_note": "the command leaves out the paths of images and folders",
        "settings": SETTINGS,
        "versions": {"python": "3.11", "monai_tta": "0.1.0", "nnunetv2": ""},
        **({} if anonymous else {"starts": STARTS}),
        "images": 6 if finished else 9,
        "adapted": 4,
        "unadapted": 1,
        "failed": 1,
        "finished": finished,
        "anonymous": anonymous,
    }
    return {"schema": "monai_tta.records", "schema_version": 1, "run": run, "cases": cases}
