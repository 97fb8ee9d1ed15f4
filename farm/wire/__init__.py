"""What crosses the wire: addresses, channels, certificates and tokens, and how records become messages."""
