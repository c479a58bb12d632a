// What Python says of a store, read from rows of int64: featx/store/gather.py writes them in the same order.
#pragma once

#include "gather.h"

namespace featx::store {

// Each of these throws std::out_of_range for a row that is too short.
Schema schema_from(const int64_t* words, size_t n);
std::vector<Shard> shards_from(const int64_t* words, size_t n, size_t slots);
Batch batch_from(const int64_t* words, size_t n, size_t fields);

}  // namespace featx::store
