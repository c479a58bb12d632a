// 3x3 convolution by Winograd's minimal filtering, float32, stride 1, padding = dilation, channels last, on the CPU.
//
// A thread takes a block of tiles whole: it transforms their input, then, 64 outputs at a time, multiplies at all
// positions and transforms the products back, so that these never leave its cache.
#include <algorithm>
#include <memory>
#include <new>

#include "winograd.h"
#include "winograd_products.h"
#include "winograd_transforms.h"

namespace featx::cpu {
namespace winograd {
namespace {

#ifdef FEATX_WINOGRAD

constexpr int64_t kOutputs = 64;     // outputs that are computed together: two panels
constexpr int64_t kMostTiles = 64;   // of a block: its products (36 x 64 x 64 floats) fit into a cache of the second level
constexpr int64_t kPad = 16;         // floats between positions, so that they do not fall on the same lines of a cache

struct Shape {
  int64_t pictures, channels, height, width, outputs, dilation;
  bool relu;
  int64_t blocks() const { return (channels + kLanes - 1) / kLanes; }
};

std::vector<Tile> tiles_of(const Shape& shape) {
  std::vector<Tile> tiles;
  const int64_t d = shape.dilation;
  for (int64_t picture = 0; picture < shape.pictures; ++picture) {
    for (int64_t i = 0; i < std::min(d, shape.height); ++i) {
      for (int64_t j = 0; j < std::min(d, shape.width); ++j) {
        const auto down = pieces_of((shape.height - i + d - 1) / d), across = pieces_of((shape.width - j + d - 1) / d);
        for (const Piece& y : down) {
          for (const Piece& x : across) {
            tiles.push_back({picture, i + y.begin * d, j + x.begin * d, y.begin, x.begin, y.size, x.size});
          }
        }
      }
    }
  }
  return tiles;
}

struct Free {
  void operator()(float* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
};
using Memory = std::unique_ptr<float[], Free>;

Memory floats(int64_t count) {
  return Memory(static_cast<float*>(::operator new[](count * sizeof(float), std::align_val_t{64})));
}

// Rows [begin, end) of a block, cut into groups for one call of the kernel each.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
  int64_t groups() const { return (size() + kMostRows - 1) / kMostRows; }
  int64_t start(int64_t group) const { return begin + size() * group / groups(); }
};

// One block: tiles in the order of order_of, so that those that have a position are a range.
struct Block {
  const Shape& shape;
  std::vector<Tile> tiles;
  Range ranges[2][2];                      // [row point is dropped by F(3,3)][column point is]
  std::vector<int64_t> place[2][2], step[2][2];  // of a tile: its first vector, and from 16 channels to the next

  Block(const Shape& shape, const Tile* begin, const Tile* end) : shape(shape), tiles(begin, end) {
    std::stable_sort(tiles.begin(), tiles.end(),
                     [](const Tile& a, const Tile& b) { return order_of(a) < order_of(b); });
    const auto before = [&](int order) {
      return std::count_if(tiles.begin(), tiles.end(), [&](const Tile& tile) { return order_of(tile) < order; });
    };
    const int64_t all = std::ssize(tiles);
    ranges[0][0] = {0, all};
    ranges[1][0] = {0, before(2)};
    ranges[0][1] = {before(1), before(3)};
    ranges[1][1] = {before(1), before(2)};
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) lay_out(ranges[i][j], place[i][j], step[i][j]);
    }
  }

  void lay_out(const Range& range, std::vector<int64_t>& place, std::vector<int64_t>& step) const {
    place.assign(tiles.size(), 0);
    step.assign(tiles.size(), 0);
    for (int64_t group = 0; group < range.groups(); ++group) {
      const int64_t first = range.start(group), last = range.start(group + 1);
      for (int64_t t = first; t < last; ++t) {
        place[t] = first * shape.blocks() * kLanes + (t - first) * kLanes;
        step[t] = (last - first) * kLanes;
      }
    }
  }

  int64_t pitch() const { return std::ssize(tiles) * shape.blocks() * kLanes + kPad; }   // of positions of the input
  int64_t product_pitch() const { return std::ssize(tiles) * kOutputs + kPad; }
};

bool dropped(int64_t point) { return point == kDropped; }

template <int R, int C>
FEATX_BODY void tile_in(const Block& block, int64_t t, const float* x, float* transformed) {
  const Shape& shape = block.shape;
  const Tile& tile = block.tiles[t];
  const int64_t d = shape.dilation, pitch = block.pitch();
  const int64_t below = (shape.height - tile.y + d - 1) / d, right = (shape.width - tile.x + d - 1) / d;
  Window window{nullptr, shape.width * shape.channels * d, shape.channels * d, tile.plane_y == 0, 0, tile.plane_x == 0, 0};
  window.bottom = static_cast<int>(std::min<int64_t>(below + 1, Transform<R>::kSize));
  window.right = static_cast<int>(std::min<int64_t>(right + 1, Transform<C>::kSize));
  const int64_t origin = (tile.picture * shape.height + tile.y - d) * shape.width + tile.x - d;
  for (int64_t b = 0; b < shape.blocks(); ++b) {
    window.pixels = x + origin * shape.channels + b * kLanes;
    transform_input<R, C>(window, std::min(kLanes, shape.channels - b * kLanes), [&](int position) {
      const bool i = position / kPoints == kDropped, j = position % kPoints == kDropped;
      return reinterpret_cast<Lanes*>(transformed + position * pitch + block.place[i][j][t] + b * block.step[i][j][t]);
    });
  }
}

template <int R, int C>
FEATX_BODY void tile_out(const Block& block, int64_t t, const float* products, const float* bias, int64_t first,
                         float* out) {
  const Shape& shape = block.shape;
  const Tile& tile = block.tiles[t];
  const int64_t d = shape.dilation, pitch = block.product_pitch();
  const int64_t below = (shape.height - tile.y + d - 1) / d, right = (shape.width - tile.x + d - 1) / d;
  const int64_t origin = (tile.picture * shape.height + tile.y) * shape.width + tile.x;
  for (int64_t k = first; k < std::min(first + kOutputs, shape.outputs); k += kLanes) {
    const int64_t count = std::min(kLanes, shape.outputs - k);
    Lanes added;
    load(added, bias + k, count);
    transform_output<R, C>(
        [&](int position) {
          return reinterpret_cast<const Lanes*>(products + position * pitch + t * kOutputs + (k - first));
        },
        added, shape.relu, out + origin * shape.outputs + k, shape.width * shape.outputs * d, shape.outputs * d, below,
        right, count);
  }
}

#define FEATX_EACH_KIND(tile, call)                                       \
  if ((tile).rows == 4 && (tile).columns == 4) call<4, 4> FEATX_ARGUMENTS; \
  else if ((tile).rows == 4) call<4, 3> FEATX_ARGUMENTS;                   \
  else if ((tile).columns == 4) call<3, 4> FEATX_ARGUMENTS;                \
  else call<3, 3> FEATX_ARGUMENTS;

#define FEATX_ARGUMENTS (block, t, x, transformed)
FEATX_BODY void input_body(const Block& block, const float* x, float* transformed) {
  for (int64_t t = 0; t < std::ssize(block.tiles); ++t) { FEATX_EACH_KIND(block.tiles[t], tile_in) }
}
#undef FEATX_ARGUMENTS
#define FEATX_ARGUMENTS (block, t, products, bias, first, out)
FEATX_BODY void output_body(const Block& block, const float* products, const float* bias, int64_t first, float* out) {
  for (int64_t t = 0; t < std::ssize(block.tiles); ++t) { FEATX_EACH_KIND(block.tiles[t], tile_out) }
}
#undef FEATX_ARGUMENTS

FEATX_WINOGRAD_AVX512 void input_avx512(const Block& b, const float* x, float* to) { input_body(b, x, to); }
FEATX_WINOGRAD_AVX2 void input_avx2(const Block& b, const float* x, float* to) { input_body(b, x, to); }
FEATX_WINOGRAD_AVX512 void output_avx512(const Block& b, const float* products, const float* bias, int64_t k, float* to) {
  output_body(b, products, bias, k, to);
}
FEATX_WINOGRAD_AVX2 void output_avx2(const Block& b, const float* products, const float* bias, int64_t k, float* to) {
  output_body(b, products, bias, k, to);
}

struct Kernels {
  decltype(&input_avx512) input;
  const Product* product;
  decltype(&output_avx512) output;
};

Kernels kernels_of(bool wide) {
  return wide ? Kernels{input_avx512, kAvx512, output_avx512} : Kernels{input_avx2, kAvx2, output_avx2};
}

// All positions of 64 outputs, from `first` on.
void multiply(const Block& block, const Kernels& kernels, const float* transformed, const float* weight, int64_t first,
              float* products) {
  const int64_t blocks = block.shape.blocks(), panel = blocks * kLanes * kPanel;
  const int64_t panels = first + kPanel < block.shape.outputs ? 2 : 1;
  const float* packed = weight + first / kOutputs * kPositions * 2 * panel;
  for (int64_t position = 0; position < kPositions; ++position) {
    const Range& range = block.ranges[dropped(position / kPoints)][dropped(position % kPoints)];
    if (range.size() == 0) continue;
    const int64_t groups = range.groups(), lines = (kPanel + groups - 1) / groups;
    for (int64_t half = 0; half < panels; ++half) {
      const float* now = packed + (position * 2 + half) * panel;
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t row = range.start(group), rows = range.start(group + 1) - row;
        const char* ahead = reinterpret_cast<const char*>(now + panel) + group * lines * 64 * blocks;
        kernels.product[rows](transformed + position * block.pitch() + row * blocks * kLanes, now, blocks,
                              products + position * block.product_pitch() + row * kOutputs + half * kPanel, kOutputs,
                              ahead, lines);
      }
    }
  }
}

void convolve(const Block& block, const Kernels& kernels, const float* x, const float* weight, const float* bias,
              float* out) {
  const Memory transformed = floats(kPositions * block.pitch()), products = floats(kPositions * block.product_pitch());
  kernels.input(block, x, transformed.get());
  for (int64_t first = 0; first < block.shape.outputs; first += kOutputs) {
    multiply(block, kernels, transformed.get(), weight, first, products.get());
    kernels.output(block, products.get(), bias, first, out);
  }
}

void convolve_all(const Shape& shape, const Kernels& kernels, const float* x, const float* weight, const float* bias,
                  float* out) {
  const std::vector<Tile> tiles = tiles_of(shape);
  const int64_t total = std::ssize(tiles), threads = torch::stable::get_num_threads();
  // As many blocks for each thread, all of about the same size.
  const int64_t rounds = std::max<int64_t>(1, (total + kMostTiles * threads - 1) / (kMostTiles * threads));
  const int64_t blocks = std::min(total, rounds * threads);
  parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Block block(shape, tiles.data() + total * i / blocks, tiles.data() + total * (i + 1) / blocks);
      convolve(block, kernels, x, weight, bias, out);
    }
  });
}

#endif

}  // namespace
}  // namespace winograd

int64_t winograd_level() {
#ifdef FEATX_WINOGRAD
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  return __builtin_cpu_supports("avx512f") ? 5 : 2;
#else
  return 0;
#endif
}

Tensor winograd_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t dilation, bool relu,
                     int64_t level) {
  const Tensor out = empty({x.size(0), bias.size(0), x.size(2), x.size(3)}, x, std::nullopt, MemoryFormat::ChannelsLast);
#ifdef FEATX_WINOGRAD
  const int64_t best = winograd_level();
  const winograd::Shape shape{x.size(0), x.size(1), x.size(2), x.size(3), bias.size(0), dilation, relu};
  const Tensor pixels = dense(x, MemoryFormat::ChannelsLast), packed = dense(weight), added = dense(bias);
  if (out.numel() == 0) return out;
  winograd::convolve_all(shape, winograd::kernels_of((level == 0 ? best : std::min(level, best)) == 5),
                         pixels.const_data_ptr<float>(), packed.const_data_ptr<float>(), added.const_data_ptr<float>(),
                         out.mutable_data_ptr<float>());
#else
  STD_TORCH_CHECK(false, "no kernel for this processor");
#endif
  return out;
}

}  // namespace featx::cpu
