"""LXMERT on records: the network is transformers' own, what surrounds it is here. One noun per module:

============  =========================================================================
``place``     the model that comes with the package
``names``     names of parameters, here and in airsplay/lxmert
``weights``   tensors of a file under the names of transformers
``sizes``     sizes of a network, from the shapes of its tensors
``network``   made from sizes, read from weights, given another list of answers
``inputs``    regions and questions as tensors
``losses``    of question answering
``masking``   what pre-training hides
``heads``     the losses of pre-training
``folder``    a trained model on disk
``consumer``  what a predictor needs of it
============  =========================================================================
"""
