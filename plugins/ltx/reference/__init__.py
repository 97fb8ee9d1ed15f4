"""The reference checkpoint: ltx-tiny's weights, and a card that says how they were trained and evaluated."""
