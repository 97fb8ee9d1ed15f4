"""Lightricks' command line `inference.py` on the farm: its arguments, its YAML configs and its media handling.

- `arguments`: the arguments (`InferenceConfig`).
- `configs` and configs.yaml: the YAML configs, both Lightricks' and people's own.
- `mapping`: turns the arguments and a config into the fields of a job's spec.
- `conditions`: prepares a call's images and clips, and places them in the job.
- `media`: prepares one image or clip. The pixels are the same as those that `inference.py` makes.
- `output_names`: the names of the output files.
- `refusals`: rewrites the farm's error messages with the names of arguments and keys.

The command itself is in farm.cli.inference. Source: LTX-Video, ltx_video/inference.py.
"""
