// Region selection on CUDA: one suppression matrix, one warp per class for its greedy pass, one thread per row for the
// final choice.
#include "aten.h"
#include "kernels.h"
#include "cuda/suppression.cuh"

namespace featx::cuda {
namespace {

constexpr int kWarp = 32;

// Number of rows that take part: `n`, or what the device knows it to be.
__device__ int64_t rows_taking(const int64_t* taking, int64_t n) { return taking && *taking < n ? *taking : n; }

// One block of one warp per class. `probs` and `order` [C, P]: its probabilities, falling, and their rows.
__global__ void greedy_kernel(const unsigned long long* bits, const float* probs, const int64_t* order,
                              const int64_t* taking, int64_t n, float* best) {
  extern __shared__ unsigned long long dropped[];
  const int64_t words = (n + 63) / 64, base = blockIdx.x * n, rows = rows_taking(taking, n);
  for (int64_t w = threadIdx.x; w < words; w += kWarp) dropped[w] = 0;
  for (int64_t rank = 0; rank < n; ++rank) {
    __syncwarp();
    const float prob = probs[base + rank];
    if (prob <= 0.0f) break;  // a score starts at 0: nothing below counts
    const int64_t row = order[base + rank];
    if (prob != prob || row >= rows || dropped[row / 64] >> row % 64 & 1) continue;
    if (threadIdx.x == 0) atomicMax(reinterpret_cast<int*>(best + row), __float_as_int(prob));  // ordered: not negative
    __syncwarp();
    for (int64_t w = threadIdx.x; w < words; w += kWarp) dropped[w] |= bits[row * words + w];
  }
}

// Where one row ends up. Every thread counts for itself: rows are few.
struct Choose {
  const float* scores;
  const int64_t* taking;
  int64_t most, min_boxes, max_boxes;
  float wanted;
  int64_t *rows, *count;
  float* out;
  __device__ void operator()(int64_t i) const {
    const int64_t n = rows_taking(taking, most);
    if (i == 0 && n == 0) *count = 0;
    if (i >= n) return;
    int64_t passing = 0, passing_before = 0, rank = 0;
    for (int64_t k = 0; k < n; ++k) {
      const bool pass = scores[k] >= wanted;
      passing += pass;
      passing_before += pass && k < i;
      rank += scores[k] > scores[i] || (scores[k] == scores[i] && k < i);
    }
    const bool enough = passing >= min_boxes && passing <= max_boxes;
    const int64_t ranked = passing < min_boxes ? min_boxes : max_boxes;
    const int64_t total = enough ? passing : ranked < n ? ranked : n;
    const int64_t place = enough ? (scores[i] >= wanted ? passing_before : total) : rank;
    if (place < total) rows[place] = i, out[place] = scores[i];
    if (i == 0) *count = total;
  }
};

Tensor survivor_scores(const Tensor& boxes, const Tensor& probs, const int64_t* taking, NmsRule rule) {
  const int64_t n = boxes.size(0), classes = probs.size(1) - 1;
  Tensor best = empty({n}, boxes);
  torch::stable::zero_(best);
  if (classes == 0) return best;
  const Tensor bits = suppression_matrix(boxes, nullptr, nullptr, rule);
  Tensor foreground = torch::stable::transpose(probs, 0, 1);
  const auto [ranked, order] = aten::sort_falling(dense(torch::stable::narrow(foreground, 0, 0, classes)));
  const Launch launch(boxes);
  greedy_kernel<<<static_cast<unsigned>(classes), kWarp, words_for(n) * sizeof(unsigned long long), launch.stream>>>(
      reinterpret_cast<const unsigned long long*>(bits.const_data_ptr<int64_t>()), ranked.const_data_ptr<float>(),
      order.const_data_ptr<int64_t>(), taking, n, best.mutable_data_ptr<float>());
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return best;
}

// How many boxes are wanted, and from which score on.
struct Wanted {
  double score;
  int64_t min_boxes, max_boxes;
};

// Writes the chosen rows and their scores to `rows` and `out`, and how many to `count`.
void choose(const Tensor& boxes, const Tensor& probs, const int64_t* taking, NmsRule rule, Wanted wanted,
            const Tensor& rows, const Tensor& out, const Tensor& count) {
  const int64_t n = boxes.size(0);
  STD_TORCH_CHECK(words_for(n) <= kSharedWords, "selection on a GPU takes at most ", 64 * kSharedWords, " boxes");
  const Tensor scores = survivor_scores(dense(boxes), probs, taking, rule);
  for_each(n, boxes,
           Choose{scores.const_data_ptr<float>(), taking, n, wanted.min_boxes, wanted.max_boxes,
                  static_cast<float>(wanted.score), rows.mutable_data_ptr<int64_t>(),
                  count.mutable_data_ptr<int64_t>(), out.mutable_data_ptr<float>()});
}

}  // namespace

std::tuple<Tensor, Tensor> select_boxes(const Tensor& boxes, const Tensor& probs, double nms_threshold,
                                        double score_threshold, int64_t min_boxes, int64_t max_boxes, bool inclusive,
                                        bool plus_one) {
  const int64_t n = boxes.size(0);
  Tensor rows = empty({n}, boxes, ScalarType::Long), out = empty({n}, boxes);
  if (n == 0) return {rows, out};
  const Tensor count = empty({1}, boxes, ScalarType::Long);
  choose(boxes, probs, nullptr, nms_rule(nms_threshold, inclusive, plus_one), {score_threshold, min_boxes, max_boxes},
         rows, out, count);
  const int64_t kept = read_back(count);
  return {torch::stable::narrow(rows, 0, 0, kept), torch::stable::narrow(out, 0, 0, kept)};
}

std::tuple<Tensor, Tensor, Tensor> select_boxes_padded(const Tensor& boxes, const Tensor& probs, const Tensor& taking,
                                                       double nms_threshold, double score_threshold, int64_t min_boxes,
                                                       int64_t max_boxes, bool inclusive, bool plus_one) {
  Tensor rows = empty({max_boxes}, boxes, ScalarType::Long), out = empty({max_boxes}, boxes);
  Tensor count = empty({1}, boxes, ScalarType::Long);
  torch::stable::zero_(rows);
  torch::stable::zero_(out);
  torch::stable::zero_(count);
  if (boxes.size(0) == 0) return {rows, out, count};
  choose(boxes, probs, taking.const_data_ptr<int64_t>(), nms_rule(nms_threshold, inclusive, plus_one),
         {score_threshold, min_boxes, max_boxes}, rows, out, count);
  return {rows, out, count};
}

}  // namespace featx::cuda
