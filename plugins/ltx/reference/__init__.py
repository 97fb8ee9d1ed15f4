"""The reference checkpoint: how ltx-tiny's weights are trained, judged, and what they were trained on."""
