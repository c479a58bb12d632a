// Stored values -> float32, and plain copies. With `stream` the output goes past the caches: it is larger than they are.
#pragma once

#include "bytes.h"

namespace featx::store {

void widen_half(float* out, const Byte* halves, size_t n, bool stream);
void widen_bfloat(float* out, const Byte* halves, size_t n, bool stream);
void dequantise(float* out, const Byte* codes, size_t n, float scale, float zero, bool stream);  // scale * (code - zero)
void copy(Byte* out, const Byte* in, size_t size, bool stream);
void end_streaming();  // what was streamed is visible to other threads

}  // namespace featx::store
