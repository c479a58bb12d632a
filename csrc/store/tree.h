// The B+tree of a sealed LMDB 0.9 file, read where it is mapped. Nothing in the file is believed: every page and every
// node is checked against the bounds of the map before it is followed, and no walk is longer than a tree can be deep.
#pragma once

#include "bytes.h"

namespace featx::store {

struct Key {
  const Byte* data;
  size_t size;
};

enum class Found : int64_t { yes, absent, damaged };

struct Tree {
  const Byte* map;
  uint64_t page_size, last_page;  // (last_page + 1) * page_size is not beyond the map
  uint64_t root;
};

struct Value {
  Found found;
  const Byte* data;
  uint64_t size;
  uint64_t node;  // where in the file the node lies that led here: no other key has it
};

constexpr uint64_t kNoPage = ~uint64_t{0};

// Looks up n keys, several at a time: while one waits for memory, others go on.
void find(const Tree& tree, const Key* keys, Value* values, size_t n);

}  // namespace featx::store
