"""Training of a small CLIP on pictures with boxes and sentences (``task: clip-tower``). One noun per module:

==============  =======================================================================
``options``     what a person chooses
``pairs``       annotated pictures with the texts about them
``cells``       what each cell of the grid is to say, and the loss of that
``fresh``       a new CLIP, whose heads begin by looking at the neighbours of a cell
``continued``   one that was trained before, for pictures of another size
``variation``   how a picture is varied from one epoch to the next
``letters``     a vocabulary for the text tower, of the words of the texts
``model``       the network that is trained: CLIP and a layer that reads cells
``export``      the folder that the extractor ``clip`` reads, and its card
``task``        all that as the training loop sees it
==============  =======================================================================
"""
