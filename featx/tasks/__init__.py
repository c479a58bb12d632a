"""Tasks for the training loop: LXMERT answering questions (VQA, GQA), and LXMERT in pre-training."""
