"""CLIP-Vision-mBART: captions of cached grids in several languages. One noun per module:

============  ==========================================================================
``network``   transformers' MBart decoder behind a projection of vision features
``losses``    of captions, token by token
``generate``  writing of captions: greedy, or by beams
============  ==========================================================================
"""
