"""What the farm's programs use to talk to each other: addresses, channels, certificates, tokens, messages."""
