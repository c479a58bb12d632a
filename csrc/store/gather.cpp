#include "gather.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

#include "convert.h"
#include "pool.h"
#include "xxh3.h"

namespace featx::store {
namespace {

constexpr size_t kGroup = 32;  // keys looked up in one go
constexpr size_t kBoxes = 1;  // features are field 0, boxes field 1

bool marked(const Byte* marks, uint64_t bit) {
  return __atomic_load_n(marks + bit / 8, __ATOMIC_RELAXED) >> (bit % 8) & 1;
}

void mark(Byte* marks, uint64_t bit) {
  __atomic_fetch_or(marks + bit / 8, static_cast<Byte>(1 << bit % 8), __ATOMIC_RELAXED);
}

bool checked(const Schema& schema, const Shard& shard, const Place& place, const Head& head, Checksums policy) {
  const bool once = policy == Checksums::once && shard.marks != nullptr;
  if (policy == Checksums::never || (once && marked(shard.marks, place.mark))) return true;
  if (!intact(schema, shard, place, head)) return false;
  if (once) mark(shard.marks, place.mark);
  return true;
}

void to_unit(float* boxes, uint64_t rows, const Head& head) {
  const auto width = static_cast<float>(head.width), height = static_cast<float>(head.height);
  for (uint64_t i = 0; i < 4 * rows; i += 2) {
    boxes[i] /= width;
    boxes[i + 1] /= height;
  }
}

// Rows of one record on their way into a batch: neighbours, which are moved as one.
struct Run {
  uint64_t from, to, rows;
};

// ``out`` and ``stored`` are of the whole record. An array that has no rows is one.
void fill_rows(const Field& field, const Slot& slot, Byte* out, const Byte* stored, const Byte* scales, const Run& run,
               bool stream) {
  const uint64_t row = slot.row_bytes;
  out += field.out_bytes(slot) * run.to;
  stored += row * run.from;
  if (field.format == Format::as_stored) return copy(out, stored, row * run.rows, stream);
  const size_t n = field.values * run.rows;
  auto* floats = reinterpret_cast<float*>(out);
  if (field.format == Format::half) return widen_half(floats, stored, n, stream);
  if (field.format == Format::bfloat) return widen_bfloat(floats, stored, n, stream);
  for (uint64_t i = 0; i < run.rows; ++i) {
    const Byte* pair = scales + 2 * sizeof(float) * (run.from + i);
    dequantise(floats + field.values * i, stored + field.values * i, field.values, load<float>(pair),
               load<float>(pair + sizeof(float)), stream);
  }
}

void look_up(const Shard& shard, const Key* keys, Value* values, size_t n) {
  if (shard.kind == Shard::Kind::tree) find(shard.tree, keys, values, n);
  else find(shard.columns, keys, values, n);
}

Place place_of(const Shard& shard, int64_t number, const Value& value) {
  Place place{};
  place.shard = number;
  if (shard.kind == Shard::Kind::columns) {
    place.at = place.mark = value.node;
  } else if (shard.kind == Shard::Kind::offsets) {
    const Offsets& file = shard.offsets;
    const uint64_t offset = std::min(load<uint64_t>(file.offsets + 8 * value.node), file.size);
    place.at = reinterpret_cast<uintptr_t>(file.map + offset);
    place.size = file.size - offset;
    place.mark = value.node;
  } else {
    place.at = reinterpret_cast<uintptr_t>(value.data);
    place.size = value.size;
    place.mark = value.node / 8;  // nodes are longer than that
  }
  return place;
}

void locate(const Schema& schema, const std::vector<Shard>& shards, const Key* keys, Place* places, size_t n) {
  std::vector<size_t> left;
  for (size_t i = 0; i < n; ++i) {
    if (places[i].status != Status::good) left.push_back(i);
  }
  std::vector<Key> wanted(left.size());
  std::vector<Value> values(left.size());
  for (size_t number = 0; number < shards.size() && !left.empty(); ++number) {
    const Shard& shard = shards[number];
    if (shard.kind == Shard::Kind::loose) continue;
    for (size_t i = 0; i < left.size(); ++i) wanted[i] = keys[left[i]];
    look_up(shard, wanted.data(), values.data(), left.size());
    size_t kept = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      Place& place = places[left[i]];
      if (values[i].found == Found::yes) {
        place = place_of(shard, static_cast<int64_t>(number), values[i]);
        continue;
      }
      if (values[i].found == Found::damaged && place.status == Status::absent) {  // another file may still have it
        place.status = Status::bad_tree;
        place.shard = static_cast<int64_t>(number);
      }
      left[kept++] = left[i];
    }
    left.resize(kept);
  }
  for (size_t i = 0; i < n; ++i) {
    if (places[i].status != Status::good) continue;
    places[i].seed = xxh3_64(keys[i].data, keys[i].size);
    places[i].status = examine(schema, shards[places[i].shard], places[i]);
  }
}

// All rows, or the chosen ones; false when one of these is not in the record.
bool runs_of(const Place& place, const Choice& choice, size_t i, std::vector<Run>& runs) {
  if (choice.rows == nullptr) {
    runs.push_back({0, 0, place.rows});
    return true;
  }
  const int64_t* rows = choice.rows + choice.width * i;
  const auto count = static_cast<uint64_t>(choice.counts[i]);
  if (count > choice.width) return false;
  for (uint64_t to = 0; to < count; ++to) {
    const auto from = static_cast<uint64_t>(rows[to]);
    if (from >= place.count) return false;
    if (!runs.empty() && runs.back().from + runs.back().rows == from) ++runs.back().rows;
    else runs.push_back({from, to, 1});
  }
  return true;
}

Status fill(const Schema& schema, const std::vector<Shard>& shards, const Place& place, size_t i, const Batch& batch) {
  const Shard& shard = shards[place.shard];
  std::vector<Run> runs;
  if (!runs_of(place, batch.choice, i, runs)) return Status::bad_choice;
  const bool all = batch.choice.rows == nullptr;
  const uint64_t kept = all ? place.rows : static_cast<uint64_t>(batch.choice.counts[i]);
  const uint64_t count = all ? place.count : kept;
  if (kept > batch.rows) return Status::too_long;
  const Head head = head_of(shard, place);
  if (!checked(schema, shard, place, head, batch.checksums)) return Status::bad_checksum;

  size_t next = 0;  // field
  const Byte* before = nullptr;
  for_each_array(schema, shard, place, [&](size_t number, const Byte* stored, uint64_t) {
    const Byte* scales = before;
    before = stored;
    if (next == schema.fields.size() || schema.fields[next].slot != number) return;
    const Field& field = schema.fields[next];
    Byte* out = batch.fields[next++];
    if (out == nullptr) return;
    const uint64_t row = field.out_bytes(schema.slots[number]), rows = field.per_region ? kept : 1;
    const uint64_t room = field.per_region ? batch.rows : 1;
    const bool stream = batch.stream && next == 1;
    out += row * room * i;
    if (field.per_region) {
      for (const Run& run : runs) fill_rows(field, schema.slots[number], out, stored, scales, run, stream);
    } else {
      fill_rows(field, schema.slots[number], out, stored, scales, {0, 0, 1}, stream);
    }
    if (room > rows) std::memset(out + row * rows, 0, row * (room - rows));
    if (batch.unit && next == kBoxes + 1) to_unit(reinterpret_cast<float*>(out), room, head);
  });

  std::memset(batch.mask + batch.rows * i, 1, count);
  std::memset(batch.mask + batch.rows * i + count, 0, batch.rows - count);
  batch.sizes[2 * i] = static_cast<float>(head.height);
  batch.sizes[2 * i + 1] = static_cast<float>(head.width);
  if (batch.stream) end_streaming();
  return Status::good;
}

}  // namespace

void gather(const Schema& schema, const std::vector<Shard>& shards, const Key* keys, Place* places, size_t n,
            const Batch* batch, int64_t threads) {
  const size_t groups = (n + kGroup - 1) / kGroup;
  const std::unique_ptr<std::atomic<bool>[]> located(new std::atomic<bool>[groups]());
  // All groups are looked up before the first record is read. They come first in the queue, so who waits for one waits
  // for a thread that is at it.
  parallel(static_cast<int64_t>(groups + (batch ? n : 0)), threads, [&](int64_t item) {
    if (const auto group = static_cast<size_t>(item); group < groups) {
      const size_t first = group * kGroup;
      locate(schema, shards, keys + first, places + first, std::min(kGroup, n - first));
      located[group].store(true, std::memory_order_release);
      return;
    }
    const size_t i = static_cast<size_t>(item) - groups;
    while (!located[i / kGroup].load(std::memory_order_acquire)) std::this_thread::yield();
    if (places[i].status == Status::good) places[i].status = fill(schema, shards, places[i], i, *batch);
  });
}

}  // namespace featx::store
