"""Lets a script of this folder import what lies beside the folder and is not installed: `training` and `tests`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
