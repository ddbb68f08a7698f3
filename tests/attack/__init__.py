"""Bad and hostile inputs, seeded, and what is promised of each: `python -m tests.attack [--count N] [--seed S]`.

A family is a dictionary of named functions ``(seed, folder) -> Attack``: it writes what is needed into the folder and says what
to run and what to expect. `arena` runs an attack in a process of its own, `promises` checks what came of it.
"""
