"""``clip-mbart-captions``: captions of grids in several languages. One noun per module:

=============  ==========================================================================
``options``    the sections of a configuration
``examples``   captions to learn, and pictures with all that is said about them
``building``   network and vocabulary
``scores``     BLEU of each language
``task``       all of it, as the training loop sees it
=============  ==========================================================================
"""
