// What the CPU kernels of RoIPool and RoIAlign share for maps of many channels: they work on channels_last maps, a
// whole pixel at a time and vectorised over its channels; other maps are converted before and after.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "roi_elements.h"

namespace featx::cpu {

// Fewer channels than this are pooled element by element.
constexpr int64_t kManyChannels = 16;

struct MapShape {
  int64_t pictures, channels, height, width;

  explicit MapShape(const Tensor& map)
      : pictures(map.size(0)), channels(map.size(1)), height(map.size(2)), width(map.size(3)) {}
  int64_t pixels() const { return height * width; }
};

// Bins that are worth a thread.
inline int64_t grain_of(const MapShape& map) { return 1 + (1 << 16) / map.channels; }

inline Tensor empty_pixels(const std::vector<int64_t>& shape, const Tensor& like) {
  return empty(shape, like, std::nullopt, MemoryFormat::ChannelsLast);
}

// Calls body(first, count) for blocks of channels. A thread that owns its channels may add to any pixel.
template <typename Body>
void for_each_channel_block(int64_t channels, const Body& body) {
  constexpr int64_t kBlock = 64;
  parallel_for(0, (channels + kBlock - 1) / kBlock, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i * kBlock, std::min(kBlock, channels - i * kBlock));
  });
}

}  // namespace featx::cpu
