"""How ltx-tiny is made: scenes, autoencoder, flow, and its card."""
