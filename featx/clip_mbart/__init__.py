"""CLIP-Vision-mBART: captions of cached grids in several languages. One noun per module:

==============  ==========================================================================
``network``     transformers' MBart decoder behind a projection of vision features
``losses``      of captions, token by token
``generate``    writing of captions: greedy, or by beams
``languages``   and their codes in mBART-50
``vocabulary``  captions as numbers: mBART-50's pieces, or words learned from captions
``consumer``    the published checkpoint, or a folder that was exported after training
==============  ==========================================================================
"""
