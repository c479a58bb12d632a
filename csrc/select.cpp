// Region selection on the CPU: one suppression matrix, one greedy pass per class, all classes in parallel.
#include <algorithm>
#include <limits>

#include "box_math.h"
#include "kernels.h"
#include "order.h"

namespace featx::cpu {
namespace {

// Which boxes each box drops once kept: one row of bits per box.
struct SuppressionMatrix {
  int64_t words;
  std::vector<uint64_t> bits;

  const uint64_t* row(int64_t i) const { return bits.data() + i * words; }
};

FEATX_CLONES void suppressed_by(BoxColumns boxes, int64_t box, int64_t n, NmsRule rule, uint8_t* out) {
  for (int64_t k = 0; k < n; ++k) out[k] = suppresses(boxes, box, k, rule);
}

SuppressionMatrix suppression_matrix(const float* boxes, int64_t n, NmsRule rule) {
  std::vector<float> columns(5 * n);
  for (int64_t i = 0; i < n; ++i) {
    const float* box = boxes + 4 * i;
    for (int64_t axis = 0; axis < 4; ++axis) columns[axis * n + i] = box[axis];
    columns[4 * n + i] = box_area(box[0], box[1], box[2], box[3], rule.one);
  }
  const float* c = columns.data();
  SuppressionMatrix matrix{(n + 63) / 64, {}};
  matrix.bits.resize(n * matrix.words);
  std::vector<uint8_t> drops(n);
  for (int64_t i = 0; i < n; ++i) {
    suppressed_by({c, c + n, c + 2 * n, c + 3 * n, c + 4 * n}, i, n, rule, drops.data());
    for (int64_t k = 0; k < n; ++k) matrix.bits[i * matrix.words + k / 64] |= uint64_t{drops[k]} << k % 64;
  }
  return matrix;
}

// One probability that is worth looking at.
struct Entry {
  float prob;
  uint32_t row, klass;
};

FEATX_CLONES bool any_at_least(const float* values, int64_t n, float floor) {
  int hit = 0;
  for (int64_t i = 0; i < n; ++i) hit |= values[i] >= floor;
  return hit;
}

// Foreground probabilities of at least `floor`, row by row: few, so most blocks are passed over.
std::vector<Entry> entries_from(const float* probs, int64_t rows, int64_t columns, float floor) {
  constexpr int64_t kBlock = 64;
  std::vector<Entry> entries;
  for (int64_t row = 0; row < rows; ++row) {
    const float* prob = probs + row * columns;
    for (int64_t begin = 0; begin < columns - 1; begin += kBlock) {
      const int64_t end = std::min(begin + kBlock, columns - 1);
      if (!any_at_least(prob + begin, end - begin, floor)) continue;
      for (int64_t c = begin; c < end; ++c) {
        if (prob[c] >= floor) entries.push_back({prob[c], static_cast<uint32_t>(row), static_cast<uint32_t>(c)});
      }
    }
  }
  return entries;
}

// Entries grouped by class as keys of visit; `ends[c]` is the past-last key of class c.
struct Buckets {
  std::vector<uint64_t> keys;
  std::vector<int64_t> ends;
};

Buckets bucket_by_class(const std::vector<Entry>& entries, int64_t classes) {
  Buckets buckets{std::vector<uint64_t>(entries.size()), std::vector<int64_t>(classes + 1)};
  for (const Entry& entry : entries) ++buckets.ends[entry.klass + 1];
  for (int64_t c = 0; c < classes; ++c) buckets.ends[c + 1] += buckets.ends[c];
  for (const Entry& entry : entries) buckets.keys[buckets.ends[entry.klass]++] = rank_key(entry.prob, entry.row);
  return buckets;  // the scatter moved every start to its end
}

// Greedy pass of one class; a suppressed entry is overwritten by kSuppressed.
constexpr uint64_t kSuppressed = ~uint64_t{0};

void greedy(uint64_t* begin, uint64_t* end, const SuppressionMatrix& matrix, std::vector<uint64_t>& dropped) {
  std::sort(begin, end);
  dropped.assign(matrix.words, 0);
  for (uint64_t* key = begin; key != end; ++key) {
    const uint32_t row = index_of(*key);
    if (dropped[row / 64] >> row % 64 & 1) {
      *key = kSuppressed;
      continue;
    }
    for (int64_t w = 0; w < matrix.words; ++w) dropped[w] |= matrix.row(row)[w];
  }
}

// Best probability of each row among the classes it survives, exact where that is at least `floor`, otherwise 0:
// whether an entry survives depends on larger entries only, so entries below the floor need not be looked at.
std::vector<float> survivor_scores(const float* probs, int64_t rows, int64_t columns, float floor,
                                   const SuppressionMatrix& matrix) {
  Buckets buckets = bucket_by_class(entries_from(probs, rows, columns, floor), columns - 1);
  constexpr int64_t kGrain = 1 << 16;  // entries that are worth a thread
  const int64_t grain = columns * kGrain / (std::ssize(buckets.keys) + 1) + 1;
  parallel_for(0, columns - 1, grain, [&](int64_t first, int64_t last) {
    std::vector<uint64_t> dropped;
    for (int64_t c = first; c < last; ++c) {
      uint64_t* keys = buckets.keys.data();
      greedy(keys + (c ? buckets.ends[c - 1] : 0), keys + buckets.ends[c], matrix, dropped);
    }
  });
  std::vector<float> best(rows);
  for (int64_t c = 0, at = 0; c < columns - 1; ++c) {
    for (; at < buckets.ends[c]; ++at) {
      if (buckets.keys[at] == kSuppressed) continue;
      float& score = best[index_of(buckets.keys[at])];
      score = std::max(score, probs[int64_t{index_of(buckets.keys[at])} * columns + c]);
    }
  }
  return best;
}

// Survivor scores that are exact for every row that can be chosen: the floor falls until enough rows reach it.
std::vector<float> scores_to_choose_from(const float* probs, int64_t rows, int64_t columns, float wanted,
                                         int64_t min_boxes, const SuppressionMatrix& matrix) {
  constexpr float kStep = 1.0f / 16, kLowest = std::numeric_limits<float>::denorm_min();  // all that is above 0
  float floor = wanted > 0 ? std::clamp(wanted, kLowest, 1.0f) : kLowest;
  while (true) {
    std::vector<float> scores = survivor_scores(probs, rows, columns, floor, matrix);
    const auto reach = std::count_if(scores.begin(), scores.end(), [&](float score) { return score >= floor; });
    if (floor == kLowest || reach >= min_boxes) return scores;
    floor = std::max(floor * kStep, kLowest);
  }
}

std::vector<int64_t> choose_rows(const std::vector<float>& scores, float wanted, int64_t min_boxes, int64_t max_boxes) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < std::ssize(scores); ++row) {
    if (scores[row] >= wanted) rows.push_back(row);
  }
  const int64_t passing = std::ssize(rows);
  if (passing >= min_boxes && passing <= max_boxes) return rows;
  const std::vector<uint64_t> ranked = visit_order(scores.data(), std::ssize(scores));
  rows.resize(std::min<int64_t>(std::ssize(ranked), passing < min_boxes ? min_boxes : max_boxes));
  std::transform(ranked.begin(), ranked.begin() + std::ssize(rows), rows.begin(), index_of);
  return rows;
}

}  // namespace

std::tuple<Tensor, Tensor> select_boxes(const Tensor& boxes, const Tensor& probs, double nms_threshold,
                                        double score_threshold, int64_t min_boxes, int64_t max_boxes, bool inclusive,
                                        bool plus_one) {
  const Tensor corners = dense(boxes), table = dense(probs);
  const int64_t n = boxes.size(0);
  const float wanted = static_cast<float>(score_threshold);
  const auto matrix =
      suppression_matrix(corners.const_data_ptr<float>(), n, nms_rule(nms_threshold, inclusive, plus_one));
  const auto scores =
      scores_to_choose_from(table.const_data_ptr<float>(), n, probs.size(1), wanted, min_boxes, matrix);
  const auto rows = choose_rows(scores, wanted, min_boxes, max_boxes);
  const int64_t count = std::ssize(rows);
  const Tensor row_out = empty({count}, boxes, ScalarType::Long), score_out = empty({count}, boxes);
  std::copy(rows.begin(), rows.end(), row_out.mutable_data_ptr<int64_t>());
  float* to = score_out.mutable_data_ptr<float>();
  for (int64_t row : rows) *to++ = scores[row];
  return {row_out, score_out};
}

}  // namespace featx::cpu
