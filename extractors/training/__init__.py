"""Training of the detector: the same network with batch norm that learns, its losses, its data and its scores."""
