"""Lightricks' command line `inference.py` on the farm: its arguments, its YAML configs and its media handling.

- `arguments`: the arguments (`InferenceConfig`).
- `configs` and configs.yaml: the YAML configs, both Lightricks' and people's own.
- `mapping`: turns the arguments and a config into the fields of a job's spec.
- `media`: prepares images and clips as `inference.py` does, to the same pixels.
- `output_names`: the names of the output files.
- `refusals`: words the farm's refusals with the names of arguments and keys.

farm.cli.inference is the command. Source: LTX-Video, ltx_video/inference.py.
"""
