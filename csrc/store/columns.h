// The columns of a sealed HDF5 file, where it is mapped: keys in order, and numbers of each record.
#pragma once

#include "tree.h"

namespace featx::store {

struct Columns {
  uint64_t count;     // records
  const Byte* keys;   // [count, width], sorted, zeros behind each
  uint64_t width;     // bytes
  // Of records that were taken apart; whole ones have these numbers in their headers.
  const Byte* start;  // int64 [count + 1]: the first row of each record
  uint64_t rows;      // of all records
  const Byte *counts, *sizes, *ordinals, *checksums;  // uint32 [count], uint32 [count, 2], uint64, uint64
};

// The same of a file whose records lie whole in it.
struct Offsets {
  const Byte* map;
  uint64_t size;        // of the map, bytes
  const Byte* offsets;  // uint64 [count]: the byte at which each record begins
};

// Places of n keys in the arrays: values[i].node is that of keys[i].
void find(const Columns& columns, const Key* keys, Value* values, size_t n);

}  // namespace featx::store
