#include "words.h"

#include <stdexcept>

namespace featx::store {
namespace {

class Words {
 public:
  Words(const int64_t* words, size_t n) : next_(words), end_(words + n) {}

  bool more() const { return next_ != end_; }

  int64_t number() {
    if (!more()) throw std::out_of_range("a row of numbers is too short");
    return *next_++;
  }

  uint64_t size() { return static_cast<uint64_t>(number()); }

  template <typename T = Byte>
  T* address() {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(number()));
  }

 private:
  const int64_t *next_, *end_;
};

}  // namespace

Schema schema_from(const int64_t* row, size_t n) {
  Words words(row, n);
  Schema schema;
  schema.oldest = words.number();
  schema.newest = words.number();
  schema.rows = words.number();
  const uint64_t slots = words.size();
  for (uint64_t i = 0; i < slots; ++i) {
    const uint64_t row_bytes = words.size();
    schema.slots.push_back({row_bytes, words.number() != 0});
  }
  while (words.more()) {
    Field field;
    field.slot = words.size();
    field.format = static_cast<Format>(words.number());
    field.values = words.size();
    if (field.slot >= slots) throw std::out_of_range("a field has no slot");
    field.per_region = schema.slots[field.slot].per_region;
    schema.fields.push_back(field);
  }
  return schema;
}

std::vector<Shard> shards_from(const int64_t* row, size_t n, size_t slots) {
  Words words(row, n);
  std::vector<Shard> shards;
  while (words.more()) {
    Shard shard{};
    shard.kind = static_cast<Shard::Kind>(words.number());
    shard.marks = words.address();
    if (shard.kind == Shard::Kind::tree) {
      Tree& tree = shard.tree;
      tree.map = words.address();
      tree.page_size = words.size();
      tree.last_page = words.size();
      tree.root = words.size();
    } else if (shard.kind == Shard::Kind::columns) {
      Columns& columns = shard.columns;
      shard.version = static_cast<uint16_t>(words.number());
      columns.count = words.size();
      columns.width = words.size();
      columns.rows = words.size();
      for (const Byte** array : {&columns.keys, &columns.start, &columns.counts, &columns.sizes, &columns.ordinals,
                                 &columns.checksums}) {
        *array = words.address();
      }
      for (size_t i = 0; i < slots; ++i) shard.arrays.push_back(words.address());
    } else if (shard.kind == Shard::Kind::offsets) {
      shard.offsets.map = words.address();
      shard.offsets.size = words.size();
      shard.columns.count = words.size();
      shard.columns.width = words.size();
      shard.columns.keys = words.address();
      shard.offsets.offsets = words.address();
    }
    shards.push_back(shard);
  }
  return shards;
}

Batch batch_from(const int64_t* row, size_t n, size_t fields) {
  Words words(row, n);
  Batch batch;
  batch.rows = words.size();
  batch.unit = words.number() != 0;
  batch.stream = words.number() != 0;
  batch.checksums = static_cast<Checksums>(words.number());
  batch.mask = words.address();
  batch.sizes = words.address<float>();
  for (size_t i = 0; i < fields; ++i) batch.fields.push_back(words.address());
  if (words.more()) {
    batch.choice.rows = words.address<int64_t>();
    batch.choice.counts = words.address<int64_t>();
    batch.choice.width = words.size();
  }
  return batch;
}

}  // namespace featx::store
