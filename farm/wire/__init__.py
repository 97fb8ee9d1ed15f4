"""Everything that crosses the wire: addresses, channels, certificates, tokens, and the translation of records to messages."""
