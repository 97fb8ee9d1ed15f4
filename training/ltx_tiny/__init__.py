"""Code that trains and judges ltx-tiny: scenes, autoencoder, flow, evaluation."""
