"""Looks at a machine the way a tunnel will use it, and says what is in the way, each with the command that mends it.

One file per subject; a check takes what it looks at (a folder that stands for ``/``, a configuration) and returns
findings. Nothing is changed, nothing is sent outside this machine.
"""
