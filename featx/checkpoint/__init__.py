"""Other people's checkpoints, and ours: files that hold a network's tensors and what stands beside them.

===========  ==========================================================================
``place``    where the files are: folder, file, hub id
``config``   the JSON files beside the weights
``shards``   weights in several files, and their index
``tensors``  tensors of a file by name: safetensors, torch, flax
``flax``     ``flax_model.msgpack``, under the names and axes of torch
``blank``    a network without weights, as a ``config.json`` describes it
``fresh``    fresh weights, as BERT and VLE draw them
``fill``     the way into a network, which leaves no tensor behind
``rows``     the last layer of a classifier for another list of classes
``tower``    the vision tower within a checkpoint, and the hash by which it is known
``save``     writing of tensors and JSON
===========  ==========================================================================
"""
