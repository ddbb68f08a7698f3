"""Bad and hostile inputs, drawn from seeds, and what is promised of each: `python -m tests.attack [--count N] [--seed S]`.

A family is a dictionary of named functions ``(seed, folder) -> Attack``. Each writes what it needs into the folder, and says what
to run and what to expect. `arena` runs an attack in a process of its own, and `promises` checks the result.
"""
