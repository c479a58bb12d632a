"""CLIP-Vision-BERT on records (gchhablani/multilingual-vqa): one BERT over the words and a cached CLIP grid.

============  ==========================================================================
``sizes``     ``config.json``: of a checkpoint, or of a fresh small network
``network``   embeddings of words and tokens of the picture, BERT, and a head
``weights``   the network of a place, a fresh one, another list of answers
``losses``    of answers and of masked words
``consumer``  a trained model that reads records, and its folder
============  ==========================================================================
"""
