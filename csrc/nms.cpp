// Greedy NMS on the CPU: every candidate meets only the boxes kept so far.
#include "box_math.h"
#include "kernels.h"
#include "order.h"

namespace featx::cpu {
namespace {

// Kept boxes, one array per coordinate, then the candidate itself at index `count`.
struct KeptBoxes {
  std::vector<float> values;
  int64_t capacity, count = 0;

  explicit KeptBoxes(int64_t capacity) : values(5 * (capacity + 1)), capacity(capacity + 1) {}

  BoxColumns columns() const {
    const float* v = values.data();
    return {v, v + capacity, v + 2 * capacity, v + 3 * capacity, v + 4 * capacity};
  }
  void place_candidate(const float* box, float one) {
    for (int64_t i = 0; i < 4; ++i) values[i * capacity + count] = box[i];
    values[4 * capacity + count] = box_area(box[0], box[1], box[2], box[3], one);
  }
};

FEATX_CLONES bool any_suppresses(BoxColumns boxes, int64_t begin, int64_t end, int64_t candidate, NmsRule rule) {
  int hit = 0;
  for (int64_t k = begin; k < end; ++k) hit |= suppresses(boxes, k, candidate, rule);
  return hit;
}

// Best boxes suppress most: look at them first, a block at a time.
bool is_suppressed(const KeptBoxes& kept, NmsRule rule) {
  constexpr int64_t kBlock = 64;
  for (int64_t begin = 0; begin < kept.count; begin += kBlock) {
    if (any_suppresses(kept.columns(), begin, std::min(begin + kBlock, kept.count), kept.count, rule)) return true;
  }
  return false;
}

// Marks the survivors among the boxes of one class, given in the order of visit.
void greedy(const float* boxes, const std::vector<uint32_t>& order, NmsRule rule, int64_t limit,
            std::vector<bool>& survives) {
  KeptBoxes kept(std::min<int64_t>(limit, order.size()));
  for (uint32_t i : order) {
    if (kept.count == limit) break;
    kept.place_candidate(boxes + 4 * int64_t{i}, rule.one);
    if (is_suppressed(kept, rule)) continue;
    survives[i] = true;
    ++kept.count;
  }
}

// Indices in the order of visit, one list per class.
std::vector<std::vector<uint32_t>> by_class(const std::vector<uint64_t>& keys, const std::optional<Tensor>& classes) {
  std::vector<uint32_t> order(keys.size());
  std::transform(keys.begin(), keys.end(), order.begin(), index_of);
  if (!classes) return {order};
  const Tensor packed = dense(*classes);
  const int64_t* label = packed.const_data_ptr<int64_t>();
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return label[a] < label[b]; });
  std::vector<std::vector<uint32_t>> groups;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || label[order[i]] != label[order[i - 1]]) groups.emplace_back();
    groups.back().push_back(order[i]);
  }
  return groups;
}

}  // namespace

Tensor nms(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& classes, double threshold,
           bool inclusive, bool plus_one, int64_t limit) {
  const int64_t n = boxes.size(0), most = limit > 0 ? std::min(limit, n) : n;
  const Tensor rows = dense(boxes), values = dense(scores);
  const std::vector<uint64_t> keys = visit_order(values.const_data_ptr<float>(), n);
  std::vector<bool> survives(n);
  for (const auto& order : by_class(keys, classes)) {
    greedy(rows.const_data_ptr<float>(), order, nms_rule(threshold, inclusive, plus_one), most, survives);
  }
  std::vector<int64_t> kept;
  for (uint64_t key : keys) {
    if (survives[index_of(key)] && std::ssize(kept) < most) kept.push_back(index_of(key));
  }
  Tensor result = empty({std::ssize(kept)}, boxes, ScalarType::Long);
  std::copy(kept.begin(), kept.end(), result.mutable_data_ptr<int64_t>());
  return result;
}

}  // namespace featx::cpu
