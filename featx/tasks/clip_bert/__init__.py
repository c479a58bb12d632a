"""``clip-bert-vqa``: questions in several languages about grids."""
