#include "record.h"

#include "xxh3.h"

namespace featx::store {
namespace {

constexpr char kMagic[] = "FXRC";
constexpr uint64_t kMostRows = 0xffffffff;

// Length of a record of so many rows; false when no file can be that long.
bool length_of(const Schema& schema, uint64_t rows, uint64_t& length) {
  constexpr uint64_t kLongest = uint64_t{1} << 62;
  length = kHeader;
  for (const Slot& slot : schema.slots) {
    uint64_t bytes = slot.row_bytes;
    if (slot.per_region && __builtin_mul_overflow(bytes, rows, &bytes)) return false;
    if (bytes > kLongest || (length += aligned(bytes)) > kLongest) return false;
  }
  return true;
}

bool fits(const Schema& schema, uint64_t rows, uint64_t count) {
  return (schema.rows < 0 || static_cast<uint64_t>(schema.rows) == rows) && count <= rows;
}

Status examine_bytes(const Schema& schema, Place& place, bool exact) {
  const auto* record = reinterpret_cast<const Byte*>(place.at);
  if (place.size < kHeader || std::memcmp(record, kMagic, 4) != 0) return Status::bad_record;
  const int64_t version = load<uint16_t>(record + 4);
  if (version < schema.oldest || version > schema.newest || load<uint16_t>(record + 6) != 0) return Status::bad_record;
  place.rows = load<uint32_t>(record + 8);
  place.count = load<uint32_t>(record + 12);
  uint64_t length;
  if (!length_of(schema, place.rows, length) || place.size < length || (exact && place.size != length)) {
    return Status::bad_record;
  }
  place.size = length;
  return fits(schema, place.rows, place.count) ? Status::good : Status::bad_record;
}

Status examine_columns(const Schema& schema, const Columns& columns, Place& place) {
  const auto first = load<uint64_t>(columns.start + 8 * place.at), last = load<uint64_t>(columns.start + 8 * place.at + 8);
  if (first > last || last > columns.rows || last - first > kMostRows) return Status::bad_record;
  place.size = first;
  place.rows = last - first;
  place.count = load<uint32_t>(columns.counts + 4 * place.at);
  return fits(schema, place.rows, place.count) ? Status::good : Status::bad_record;
}

}  // namespace

Head head_of(const Shard& shard, const Place& place) {
  // Rows and count are not read again: what was examined holds, even if somebody writes to the file meanwhile.
  const auto rows = static_cast<uint32_t>(place.rows), count = static_cast<uint32_t>(place.count);
  if (shard.kind == Shard::Kind::columns) {
    const Columns& columns = shard.columns;
    const Byte* size = columns.sizes + 8 * place.at;
    return {rows, count, load<uint32_t>(size), load<uint32_t>(size + 4), load<uint64_t>(columns.ordinals + 8 * place.at),
            load<uint64_t>(columns.checksums + 8 * place.at)};
  }
  const auto* record = reinterpret_cast<const Byte*>(place.at);
  return {rows, count, load<uint32_t>(record + 16), load<uint32_t>(record + 20), load<uint64_t>(record + 24),
          load<uint64_t>(record + 40)};
}

Status examine(const Schema& schema, const Shard& shard, Place& place) {
  if (shard.kind == Shard::Kind::columns) return examine_columns(schema, shard.columns, place);
  return examine_bytes(schema, place, shard.kind == Shard::Kind::loose);  // in a file it may be followed by others
}

bool intact(const Schema& schema, const Shard& shard, const Place& place, const Head& head) {
  if (shard.kind != Shard::Kind::columns) {
    const auto* record = reinterpret_cast<const Byte*>(place.at);
    Xxh3 state(place.seed, kHashed + place.size - kHeader);
    state.update(record, kHashed);
    state.update(record + kHeader, place.size - kHeader);
    return state.digest() == head.checksum;
  }
  Byte front[kHashed] = {};  // the header that the record would have
  std::memcpy(front, kMagic, 4);
  save(front + 4, shard.version);
  save(front + 8, head.rows);
  save(front + 12, head.count);
  save(front + 16, head.height);
  save(front + 20, head.width);
  save(front + 24, head.ordinal);
  uint64_t length;
  if (!length_of(schema, place.rows, length)) return false;
  Xxh3 state(place.seed, kHashed + length - kHeader);
  state.update(front, kHashed);
  for_each_array(schema, shard, place, [&](size_t, const Byte* array, uint64_t bytes) {
    state.update(array, bytes);
    state.zeros(aligned(bytes) - bytes);
  });
  return state.digest() == head.checksum;
}

}  // namespace featx::store
