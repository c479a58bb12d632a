// Greedy NMS on CUDA: all pairs at once as bits, then one block walks the boxes in the order of visit.
#include "aten.h"
#include "kernels.h"
#include "cuda/suppression.cuh"

namespace featx::cuda {
namespace {

// Every thread owns some words of `dropped` and writes only those; all threads walk the same boxes.
__global__ void walk_kernel(const unsigned long long* bits, const int64_t* order, int64_t n, int64_t limit,
                            int64_t* kept, int64_t* count) {
  extern __shared__ unsigned long long dropped[];
  const int64_t words = (n + 63) / 64;
  for (int64_t w = threadIdx.x; w < words; w += blockDim.x) dropped[w] = 0;
  int64_t found = 0;
  for (int64_t word = 0; word < words && found < limit; ++word) {
    __syncthreads();
    const int64_t left = n - 64 * word;
    unsigned long long alive = ~dropped[word] & (left < 64 ? (1ull << left) - 1 : ~0ull);
    while (alive && found < limit) {
      const int bit = __ffsll(static_cast<long long>(alive)) - 1;
      const unsigned long long* row = bits + (64 * word + bit) * words;
      if (threadIdx.x == 0) kept[found] = order[64 * word + bit];
      ++found;
      alive &= ~row[word] & ~(1ull << bit);
      for (int64_t w = threadIdx.x; w < words; w += blockDim.x) {
        if (w > word) dropped[w] |= row[w];
      }
    }
  }
  if (threadIdx.x == 0) *count = found;
}

}  // namespace

Tensor nms(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& classes, double threshold,
           bool inclusive, bool plus_one, int64_t limit) {
  const int64_t n = boxes.size(0);
  STD_TORCH_CHECK(words_for(n) <= kSharedWords, "NMS on a GPU takes at most ", 64 * kSharedWords, " boxes");
  Tensor kept = empty({n}, boxes, ScalarType::Long);
  if (n == 0) return kept;
  const Tensor rows = dense(boxes), order = std::get<1>(aten::sort_falling(scores));
  const std::optional<Tensor> labels = classes ? std::optional(dense(*classes)) : std::nullopt;
  const Tensor bits =
      suppression_matrix(rows, &order, labels ? &*labels : nullptr, nms_rule(threshold, inclusive, plus_one));
  const Tensor count = empty({1}, boxes, ScalarType::Long);
  const Launch launch(boxes);
  walk_kernel<<<1, kThreads, words_for(n) * sizeof(unsigned long long), launch.stream>>>(
      reinterpret_cast<const unsigned long long*>(bits.const_data_ptr<int64_t>()), order.const_data_ptr<int64_t>(), n,
      limit > 0 ? limit : n, kept.mutable_data_ptr<int64_t>(), count.mutable_data_ptr<int64_t>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return torch::stable::narrow(kept, 0, 0, read_back(count));
}

}  // namespace featx::cuda
