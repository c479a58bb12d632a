"""Linear layers on frozen CLIP, for VizWiz: one embedding of the picture, one of the question. One noun per module:

============  ==========================================================================
``network``   the layers, with a gate on the answers by their type
``losses``    of answer, type and answerability
``consumer``  a folder that was exported after training
============  ==========================================================================
"""
