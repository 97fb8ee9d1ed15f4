"""What the farm's parts use to talk to each other: addresses, channels, certificates, tokens, messages."""
