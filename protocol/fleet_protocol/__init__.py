"""What both ends of fleet say to each other: ids, states, the manifest, capability and the wire models."""
