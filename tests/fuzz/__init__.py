"""Fuzzing of what reads answers: ``python -m tests.fuzz``, or ``make fuzz``.

Each *case* is a mutated body. It is read by the harvester and by a slow *reference*, which shares no code with it; the
two must agree, or the harvester must raise an error of its own. A case follows from a seed and its number alone, so
that it can be made again after the process that read it has died.
"""
