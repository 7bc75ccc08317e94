"""`flint-config`: tells where the C library of this package is, in the words of a compiler."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import flint

LIBRARY = "libflint_limiter.so.1"


def answers() -> dict[str, tuple[str, str]]:
    """For each option, what it prints and what that is."""
    include, library = flint.get_include(), flint.get_library_dir()
    link = [f"-L{library}", f"-Wl,-rpath,{library}", "-lflint_limiter"]
    return {
        "cflags": (shlex.join([f"-I{include}"]), "what a C compiler needs"),
        "libs": (shlex.join(link), "what a linker needs; the program finds the library later"),
        "includedir": (include, "the directory of flint_limiter.h"),
        "libdir": (library, "the directory of the library"),
        "library": (str(Path(library, LIBRARY)), "the library itself, for those who load it"),
        "pcdir": (str(Path(library, "pkgconfig")), "the directory for PKG_CONFIG_PATH"),
        "version": (flint.__version__, "the version"),
    }


def main(arguments: list[str] | None = None) -> None:
    known = answers()
    parser = argparse.ArgumentParser("flint-config", description=__doc__, allow_abbrev=False)
    for name, (_, meaning) in known.items():
        parser.add_argument(
            f"--{name}", dest="asked", action="append_const", const=name, help=meaning
        )
    asked = parser.parse_args(arguments).asked
    if not asked:
        parser.error("say what you want to know; --help lists it")
    print(*(known[name][0] for name in asked))


if __name__ == "__main__":
    main()
