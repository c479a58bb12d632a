// Records of many files -> the tensors of one batch.
#pragma once

#include "record.h"

namespace featx::store {

// Finds the records of n keys and reads their headers. Where a place says `good` already, its record is only examined.
void locate(const Schema& schema, const std::vector<Shard>& shards, const Key* keys, Place* places, size_t n);

enum class Checksums : int64_t { never, once, always };

// Tensors of a batch: row i of each belongs to record i.
struct Batch {
  uint64_t rows;   // N, to which every record is padded with zeros
  bool unit;       // boxes are divided by width and height
  bool stream;     // features go past the caches
  Checksums checksums;
  Byte* mask;      // bool [B, N]
  float* sizes;    // float32 [B, 2]: height, width
  std::vector<Byte*> fields;  // one for each field of the schema, none: not wanted
};

// Checks record `i` and writes it into the batch.
Status fill(const Schema& schema, const std::vector<Shard>& shards, const Place* places, size_t i, const Batch& batch);

}  // namespace featx::store
