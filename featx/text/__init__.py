"""Texts as numbers: the optional packages behind that, and the word pieces of BERT.

=============  ==========================================================================
``library``    the packages transformers and tokenizers, imported when first needed
``wordpiece``  questions -> word pieces, read from files or learned from a corpus
=============  ==========================================================================
"""
