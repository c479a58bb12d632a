"""Vision towers of the CLIP family, and the text towers that belong to them: what the extractors of CLIP are made of.

==============  =======================================================================
``family``      which kinds of towers there are, and how their sections are called
``geometry``    where cells and view of a tower's input lie in the original
``resizing``    the switches of preprocessing: how large an input is, and its numbers
``image_processor``  those numbers as a file of transformers
``pixels``      picture -> network input
``choice``      names of the tensors that may be asked for
``tower``       the network on a device
``loading``     a place, file or seed -> a tower; sizes from config.json, every tensor used
``seeded``      an untrained tiny tower and its words
``texts``       the text tower with its tokenizer
``transfer``    a tower taken out of a checkpoint, as a folder of its own
==============  =======================================================================
"""
