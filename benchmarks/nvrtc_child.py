"""Compiles a program for a GPU by NVRTC and writes the cubin to standard output: ``NAME ARCHITECTURE``.

The program comes by standard input.
"""

from __future__ import annotations

import sys

from cuda.bindings import nvrtc

from drivers.cuda.device import OPTIONS


def main(name: str, architecture: str) -> int:
    error, unit = nvrtc.nvrtcCreateProgram(sys.stdin.buffer.read(), name.encode(), 0, [], [])
    assert not int(error), error
    options = [f"--gpu-architecture={architecture}".encode(), *(option.encode() for option in OPTIONS)]
    (error,) = nvrtc.nvrtcCompileProgram(unit, len(options), options)
    if int(error):
        _, size = nvrtc.nvrtcGetProgramLogSize(unit)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(unit, log)
        sys.stderr.write(log.decode())
        return 1
    _, size = nvrtc.nvrtcGetCUBINSize(unit)
    image = b" " * size
    nvrtc.nvrtcGetCUBIN(unit, image)
    sys.stdout.buffer.write(image)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
