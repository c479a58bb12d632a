"""How single values are written: pickles, which are read by calling nothing, npy, npz, torch tensors and msgpack."""
