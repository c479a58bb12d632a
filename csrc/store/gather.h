// Records of many files -> the tensors of one batch.
#pragma once

#include "record.h"

namespace featx::store {

enum class Checksums : int64_t { never, once, always };

// The rows that are wanted of each record: of record i the first counts[i] of rows[width * i], in their order.
struct Choice {
  const int64_t* rows = nullptr;  // none: all rows of every record
  const int64_t* counts = nullptr;
  uint64_t width = 0;
};

// Tensors of a batch: row i of each belongs to record i.
struct Batch {
  uint64_t rows;   // N, to which every record is padded with zeros
  bool unit;       // boxes are divided by width and height
  bool stream;     // features go past the caches
  Checksums checksums;
  Byte* mask;      // bool [B, N]
  float* sizes;    // float32 [B, 2]: height, width
  std::vector<Byte*> fields;  // one for each field of the schema, none: not wanted
  Choice choice;
};

// Finds the records of n keys, checks them and, if a batch is given, writes them into it: record i into its row i. A
// record whose place says `good` beforehand is not looked up, only examined. Afterwards each place says how it went.
void gather(const Schema& schema, const std::vector<Shard>& shards, const Key* keys, Place* places, size_t n,
            const Batch* batch, int64_t threads);

}  // namespace featx::store
