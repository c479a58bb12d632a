#include "tree.h"

#include <algorithm>

namespace featx::store {
namespace {

constexpr size_t kPageHeader = 16, kNodeHeader = 8;
constexpr int kDeepest = 32;  // levels; as LMDB's own cursors
constexpr size_t kAtOnce = 32;

enum PageFlag : uint16_t { kBranch = 1, kLeaf = 2, kOverflow = 4, kKinds = 0x7f };
enum NodeFlag : uint16_t { kBigData = 1 };

struct Page {
  const Byte* data;
  uint64_t size;
  uint64_t nodes;
  bool leaf;
};

struct Node {
  uint64_t offset;  // in its page
  const Byte* data;
  Key key;
};

bool inside(const Tree& tree, uint64_t number) { return number >= 2 && number <= tree.last_page; }

bool open_page(const Tree& tree, uint64_t number, Page& page) {
  if (!inside(tree, number)) return false;
  page.data = tree.map + number * tree.page_size;
  page.size = tree.page_size;
  const uint64_t lower = load<uint16_t>(page.data + 12);
  const int kind = load<uint16_t>(page.data + 10) & kKinds;
  if (load<uint64_t>(page.data) != number || (kind != kBranch && kind != kLeaf)) return false;
  if (lower <= kPageHeader || lower > page.size || lower % 2) return false;
  page.nodes = (lower - kPageHeader) / 2;
  page.leaf = kind == kLeaf;
  return true;
}

bool open_node(const Page& page, uint64_t place, Node& node) {
  node.offset = load<uint16_t>(page.data + kPageHeader + 2 * place);
  if (node.offset % 2 || node.offset < kPageHeader + 2 * page.nodes || node.offset + kNodeHeader > page.size) return false;
  node.data = page.data + node.offset;
  node.key = {node.data + kNodeHeader, load<uint16_t>(node.data + 6)};
  return node.offset + kNodeHeader + node.key.size <= page.size;
}

int compare(const Key& a, const Key& b) {
  const int order = std::memcmp(a.data, b.data, std::min(a.size, b.size));
  return order != 0 ? order : a.size < b.size ? -1 : a.size > b.size;
}

// Where the value of a node lies: in the node, or on pages of its own.
Found resolve(const Tree& tree, const Page& page, const Node& node, Value& value) {
  const int flags = load<uint16_t>(node.data + 4);
  const uint64_t size = load<uint32_t>(node.data), used = node.offset + kNodeHeader + node.key.size;
  const Byte* data = node.key.data + node.key.size;
  if ((flags & ~kBigData) != 0) return Found::damaged;
  if (flags == 0) {
    if (used + size > page.size) return Found::damaged;
  } else {
    if (used + 8 > page.size) return Found::damaged;
    const uint64_t number = load<uint64_t>(data);
    if (!inside(tree, number)) return Found::damaged;
    const Byte* first = tree.map + number * tree.page_size;
    const uint64_t pages = load<uint32_t>(first + 12);
    if (load<uint64_t>(first) != number || (load<uint16_t>(first + 10) & kKinds) != kOverflow) return Found::damaged;
    if (pages < 1 || pages > tree.last_page + 1 - number || kPageHeader + size > pages * tree.page_size) {
      return Found::damaged;
    }
    data = first + kPageHeader;
  }
  value.data = data;
  value.size = size;
  value.node = static_cast<uint64_t>(node.data - tree.map);
  return Found::yes;
}

void prefetch_page(const Tree& tree, uint64_t number) {
  if (!inside(tree, number)) return;
  const Byte* page = tree.map + number * tree.page_size;
  prefetch(page);
  prefetch(page + 64);
}

// One walk from the root to a value. A step reads what the step before asked memory for.
class Walk {
 public:
  void begin(const Tree& tree, const Key& key, Value& value) {
    key_ = &key;
    value_ = &value;
    number_ = tree.root;
    depth_ = 0;
    state_ = State::page;
    if (number_ == kNoPage) finish(Found::absent);
    else prefetch_page(tree, number_);
  }

  // False when the walk is over.
  bool step(const Tree& tree) {
    if (state_ == State::page) enter(tree);
    else if (state_ == State::nodes) bisect(tree);
    else if (state_ == State::value) finish(resolve(tree, page_, node_, *value_));
    return state_ != State::over;
  }

 private:
  enum class State { page, nodes, value, over };

  void finish(Found found) {
    value_->found = found;
    state_ = State::over;
  }

  void enter(const Tree& tree) {
    if (++depth_ > kDeepest || !open_page(tree, number_, page_)) return finish(Found::damaged);
    low_ = page_.leaf ? 0 : 1;  // the first node of a branch stands for all that is smaller
    high_ = page_.nodes;
    state_ = State::nodes;
    prefetch_middle();
  }

  // Halves the nodes in question: those before low_ have keys up to the one wanted, those from high_ on greater ones.
  void bisect(const Tree& tree) {
    if (low_ >= high_) return page_.leaf ? finish(Found::absent) : descend(tree);
    const uint64_t middle = (low_ + high_) / 2;
    if (!open_node(page_, middle, node_)) return finish(Found::damaged);
    const int order = compare(node_.key, *key_);
    if (order == 0 && page_.leaf) return arrive(tree);
    (order <= 0 ? low_ : high_) = order <= 0 ? middle + 1 : middle;
    prefetch_middle();
  }

  void prefetch_middle() const {
    const Byte* entry = page_.data + kPageHeader + (low_ + high_) / 2 * 2;
    if (low_ < high_) prefetch(page_.data + load<uint16_t>(entry));
  }

  void descend(const Tree& tree) {
    if (!open_node(page_, low_ - 1, node_)) return finish(Found::damaged);
    number_ = load<uint32_t>(node_.data) | uint64_t{load<uint16_t>(node_.data + 4)} << 32;
    prefetch_page(tree, number_);
    state_ = State::page;
  }

  void arrive(const Tree& tree) {
    const uint64_t used = node_.offset + kNodeHeader + node_.key.size;
    if (load<uint16_t>(node_.data + 4) == kBigData && used + 8 <= page_.size) {
      prefetch_page(tree, load<uint64_t>(node_.key.data + node_.key.size));
    }
    state_ = State::value;
  }

  const Key* key_;
  Value* value_;
  uint64_t number_, low_, high_;
  Page page_;
  Node node_;
  State state_;
  int depth_;
};

}  // namespace

void find(const Tree& tree, const Key* keys, Value* values, size_t n) {
  Walk walks[kAtOnce];
  for (size_t first = 0; first < n; first += kAtOnce) {
    const size_t count = std::min(kAtOnce, n - first);
    for (size_t i = 0; i < count; ++i) walks[i].begin(tree, keys[first + i], values[first + i]);
    bool more = true;
    while (more) {
      more = false;
      for (size_t i = 0; i < count; ++i) more |= walks[i].step(tree);
    }
  }
}

}  // namespace featx::store
