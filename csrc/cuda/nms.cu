// Greedy NMS on CUDA: all pairs at once as bits, then one block walks the boxes in the order of visit.
#include "aten.h"
#include "kernels.h"
#include "cuda/suppression.cuh"

namespace featx::cuda {
namespace {

// Bits of the boxes of one word that do not take part: those from `*taking` on, null for none.
__device__ unsigned long long left_out(const int64_t* order, const int64_t* taking, int64_t word, int64_t n) {
  unsigned long long found = 0;
  for (int64_t bit = 0; taking && bit < 64 && 64 * word + bit < n; ++bit) {
    if (order[64 * word + bit] >= *taking) found |= 1ull << bit;
  }
  return found;
}

// Every thread owns some words of `dropped` and writes only those; all threads walk the same boxes.
__global__ void walk_kernel(const unsigned long long* bits, const int64_t* order, const int64_t* taking, int64_t n,
                            int64_t limit, int64_t* kept, int64_t* count) {
  extern __shared__ unsigned long long dropped[];
  const int64_t words = (n + 63) / 64;
  for (int64_t w = threadIdx.x; w < words; w += blockDim.x) dropped[w] = left_out(order, taking, w, n);
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

// Writes the survivors to `kept`, at most `limit` (as long as it is), and how many to `count`.
void survivors(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& classes, const int64_t* taking,
               NmsRule rule, int64_t limit, const Tensor& kept, const Tensor& count) {
  const int64_t n = boxes.size(0);
  STD_TORCH_CHECK(words_for(n) <= kSharedWords, "NMS on a GPU takes at most ", 64 * kSharedWords, " boxes");
  const Tensor rows = dense(boxes), order = std::get<1>(aten::sort_falling(scores));
  const std::optional<Tensor> labels = classes ? std::optional(dense(*classes)) : std::nullopt;
  const Tensor bits = suppression_matrix(rows, &order, labels ? &*labels : nullptr, rule);
  const Launch launch(boxes);
  walk_kernel<<<1, kThreads, words_for(n) * sizeof(unsigned long long), launch.stream>>>(
      reinterpret_cast<const unsigned long long*>(bits.const_data_ptr<int64_t>()), order.const_data_ptr<int64_t>(),
      taking, n, limit, kept.mutable_data_ptr<int64_t>(), count.mutable_data_ptr<int64_t>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

Tensor nms(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& classes, double threshold,
           bool inclusive, bool plus_one, int64_t limit) {
  const int64_t n = boxes.size(0);
  Tensor kept = empty({n}, boxes, ScalarType::Long);
  if (n == 0) return kept;
  const Tensor count = empty({1}, boxes, ScalarType::Long);
  survivors(boxes, scores, classes, nullptr, nms_rule(threshold, inclusive, plus_one), limit > 0 ? limit : n, kept,
            count);
  return torch::stable::narrow(kept, 0, 0, read_back(count));
}

std::tuple<Tensor, Tensor> nms_padded(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& classes,
                                      const Tensor& taking, double threshold, bool inclusive, bool plus_one,
                                      int64_t limit) {
  Tensor kept = empty({limit}, boxes, ScalarType::Long), count = empty({1}, boxes, ScalarType::Long);
  torch::stable::zero_(kept);
  torch::stable::zero_(count);
  if (boxes.size(0) == 0) return {kept, count};
  survivors(boxes, scores, classes, taking.const_data_ptr<int64_t>(), nms_rule(threshold, inclusive, plus_one), limit,
            kept, count);
  return {kept, count};
}

}  // namespace featx::cuda
