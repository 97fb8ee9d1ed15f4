"""Generate farm/v1/*_pb2*.py from proto/farm/v1/*.proto.

The generated files are committed, and a test checks that they are up to date. Run this script with `make proto`. To
write the package below another folder, run `python proto/generate.py FOLDER`.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def generate(target: Path) -> None:
    """Write the generated modules to `target`/farm/v1. Raises RuntimeError if protoc refuses a file."""
    from grpc_tools import protoc

    sources = sorted((ROOT / "farm" / "v1").glob("*.proto"))
    common = str(files("grpc_tools") / "_proto")
    arguments = ["protoc", f"-I{ROOT}", f"-I{common}", f"--python_out={target}", f"--pyi_out={target}"]
    arguments += [f"--grpc_python_out={target}", *map(str, sources)]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc refused the proto files; the messages above say why")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent)
