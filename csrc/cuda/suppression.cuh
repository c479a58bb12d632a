// The suppression matrix on CUDA: one bit per pair of boxes, rows of 64-bit words.
#pragma once

#include "box_math.h"
#include "for_each.h"

namespace featx::cuda {

inline int64_t words_for(int64_t n) { return (n + 63) / 64; }

// Box i of the columns is box order[i] of the rows; `order` may be null.
struct GatherColumns {
  const float* boxes;
  const int64_t* order;
  int64_t n;
  float one;
  float* out;
  __device__ void operator()(int64_t i) const {
    const float* box = boxes + 4 * (order ? order[i] : i);
    for (int64_t axis = 0; axis < 4; ++axis) out[axis * n + i] = box[axis];
    out[4 * n + i] = box_area(box[0], box[1], box[2], box[3], one);
  }
};

// Element (word, row), rows next to each other: which of the 64 boxes of the word box `row` drops once kept.
struct SuppressionWord {
  BoxColumns boxes;
  const int64_t *order, *classes;  // both null, or the class of box i is classes[order[i]]
  int64_t n;
  NmsRule rule;
  unsigned long long* bits;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i % n, word = i / n;
    unsigned long long found = 0;
    if (order && word < row / 64) {  // boxes that are visited before it, which it cannot drop
      bits[row * words() + word] = 0;
      return;
    }
    for (int64_t bit = 0; bit < 64 && 64 * word + bit < n; ++bit) {
      const int64_t other = 64 * word + bit;
      const bool same = !classes || classes[order[row]] == classes[order[other]];
      if (same && suppresses(boxes, row, other, rule)) found |= 1ull << bit;
    }
    bits[row * words() + word] = found;
  }
  __device__ int64_t words() const { return (n + 63) / 64; }
};

// bits [n, words], as int64.
inline Tensor suppression_matrix(const Tensor& boxes, const Tensor* order, const Tensor* classes, NmsRule rule) {
  const int64_t n = boxes.size(0);
  const Tensor columns = empty({5, n}, boxes), bits = empty({n, words_for(n)}, boxes, ScalarType::Long);
  const int64_t* at = order ? order->const_data_ptr<int64_t>() : nullptr;
  float* c = columns.mutable_data_ptr<float>();
  for_each(n, boxes, GatherColumns{boxes.const_data_ptr<float>(), at, n, rule.one, c});
  for_each(n * words_for(n), boxes,
           SuppressionWord{{c, c + n, c + 2 * n, c + 3 * n, c + 4 * n},
                           at,
                           classes ? classes->const_data_ptr<int64_t>() : nullptr,
                           n,
                           rule,
                           reinterpret_cast<unsigned long long*>(bits.mutable_data_ptr<int64_t>())});
  return bits;
}

// Reads one number back from the device: the length of a result.
inline int64_t read_back(const Tensor& value) {
  const Launch launch(value);
  int64_t number = 0;
  STD_CUDA_CHECK(cudaMemcpyAsync(&number, value.const_data_ptr<int64_t>(), sizeof number, cudaMemcpyDeviceToHost,
                                 launch.stream));
  STD_CUDA_CHECK(cudaStreamSynchronize(launch.stream));
  return number;
}

constexpr int64_t kSharedWords = 48 * 1024 / sizeof(unsigned long long);  // of shared memory in any block

}  // namespace featx::cuda
