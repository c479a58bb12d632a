// A stored record: FORMAT.md, "Records". What codec.unpack refuses is refused here, nothing else.
#pragma once

#include <vector>

#include "columns.h"
#include "tree.h"

namespace featx::store {

constexpr size_t kHeader = 48, kHashed = 40;  // bytes of the header, and how many of them the checksum covers
constexpr size_t kAlign = 16;

// How a field leaves the store.
enum class Format : int64_t { as_stored, half, bfloat, codes };

struct Slot {
  uint64_t row_bytes;  // of one row; of all of it, where it has no rows
  bool per_region;
};

struct Field {
  uint64_t slot;  // of codes, their scales are in the slot before
  Format format;
  uint64_t values;  // of one row; of all, where it has no rows
  bool per_region;

  uint64_t out_bytes(const Slot& stored) const { return format == Format::as_stored ? stored.row_bytes : 4 * values; }
};

// What the records of a store look like.
struct Schema {
  int64_t oldest, newest;  // versions of records that may be read
  int64_t rows;            // of every record, -1 where they vary
  std::vector<Slot> slots;
  std::vector<Field> fields;
};

// A file of records. An LMDB file has a tree, an HDF5 file columns and either arrays or offsets, and records in memory
// have nothing.
struct Shard {
  enum class Kind : int64_t { tree, columns, loose, offsets } kind;
  Byte* marks;  // a bit for each record whose checksum has been seen to fit; none: nobody keeps them
  Tree tree;
  Columns columns;
  uint16_t version;                 // of the records in columns
  std::vector<const Byte*> arrays;  // one for each slot
  Offsets offsets;
};

enum class Status : int64_t { good, absent, bad_tree, bad_record, bad_checksum, too_long, bad_choice };

// Where a record lies, and what its header says. Python sees it as a row of numbers.
struct Place {
  Status status;
  int64_t shard;
  uint64_t at;    // address of the record; its number, in columns
  uint64_t size;  // bytes that may be read from there; its first row, in columns
  uint64_t rows, count;
  uint64_t mark;  // its bit in the marks of its shard
  uint64_t seed;  // of the checksum
};
static_assert(sizeof(Place) == 64, "a row of eight numbers");

struct Head {
  uint32_t rows, count, height, width;
  uint64_t ordinal, checksum;
};

constexpr uint64_t aligned(uint64_t size) { return (size + kAlign - 1) / kAlign * kAlign; }

// The header of a record that was examined.
Head head_of(const Shard& shard, const Place& place);

// Checks all but the checksum; fills rows and count.
Status examine(const Schema& schema, const Shard& shard, Place& place);

// Whether the checksum fits. Reads every byte of the record.
bool intact(const Schema& schema, const Shard& shard, const Place& place, const Head& head);

// Calls body(slot number, address, bytes) for every array of a record, in their order.
template <typename Body>
void for_each_array(const Schema& schema, const Shard& shard, const Place& place, const Body& body) {
  const bool columns = shard.kind == Shard::Kind::columns;
  const Byte* next = columns ? nullptr : reinterpret_cast<const Byte*>(place.at) + kHeader;
  for (size_t i = 0; i < schema.slots.size(); ++i) {
    const Slot& slot = schema.slots[i];
    const uint64_t bytes = slot.per_region ? slot.row_bytes * place.rows : slot.row_bytes;
    if (columns) {
      body(i, shard.arrays[i] + slot.row_bytes * (slot.per_region ? place.size : place.at), bytes);
    } else {
      body(i, next, bytes);
      next += aligned(bytes);
    }
  }
}

}  // namespace featx::store
