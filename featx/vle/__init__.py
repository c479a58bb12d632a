"""VLE: text and grid fused by co-attention, for answers, matches, patches, and whatever has a head.

============  ==========================================================================
``sizes``     what a network is made by: a published ``config.json``, or sizes
``heads``     of answers, matches, patches, masked words, and of VCR
``network``   DeBERTa, CLIP's tokens, co-attention
``names``     published names of parameters, as they come
``weights``   networks from checkpoints, and fresh ones
``inputs``    records and texts -> tensors
``losses``    of every head
``patches``   which cells of a grid lie in a box
``vcr_text``  texts of VCR: objects in their names, and what each piece names
``vcr``       candidates that share a picture, and rows of their objects
``consumer``  the published checkpoint, or a folder that was exported after training
============  ==========================================================================
"""
