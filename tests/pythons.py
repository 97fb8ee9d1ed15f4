"""A Python in which more is installed than in ours: how tests bring plugins into processes of the farm.

Those take nothing from PYTHONPATH, so a test that has a plugin needs what a studio needs, an environment with it installed.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path


def python_with(folder: Path, *installed: Path) -> str:
    """Path of a Python made in `folder`, which imports from the folders `installed`, then from where this one does."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    packages.mkdir(parents=True, exist_ok=True)
    (folder / "bin").mkdir(exist_ok=True)
    home = Path(sysconfig.get_config_var("BINDIR"))
    _write(folder / "pyvenv.cfg", f"home = {home}\ninclude-system-site-packages = false\n")
    python = folder / "bin" / "python"
    if not python.exists():
        python.symlink_to(Path(sys.executable).resolve())
    ours = [str(one) for one in installed]
    first = [f"import sys; sys.path[:0] = [one for one in {ours!r} if one not in sys.path]"]
    # Packages that are installed for development lie where a .pth file there says.
    then = [f"import site; site.addsitedir({one!r})" for one in site.getsitepackages()]
    _write(packages / "more.pth", "\n".join([*first, *then]) + "\n")
    return str(python)


def _write(file: Path, text: str) -> None:
    """Put `text` in the file at once: a process of the farm may be starting with this Python just now."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(file)
