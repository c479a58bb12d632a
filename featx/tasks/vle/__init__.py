"""VLE's tasks: ``vle-vqa``, ``vle-itm``, ``vle-pbc``, ``vle-vcr``. One noun per module:

=============  ==========================================================================
``options``    the sections of a configuration
``building``   network and vocabulary
``groups``     learning rates and weight decay by names of parameters
``answers``    lists and scores of answers as VLE was trained with
``common``     what the tasks share
``vqa``        questions and answers
``matching``   is this text about this picture?
``grounding``  which patches is this text about?
``vcr``        four answers about objects, and four reasons
=============  ==========================================================================
"""
