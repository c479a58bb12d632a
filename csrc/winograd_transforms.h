// Tiles into the domain of Winograd and back: 16 channels of a tile at a time, in vectors that the compiler cuts to the
// width of the caller's instruction set. Zeros and ones of the matrices are known when this is compiled.
#pragma once

#include <cstring>

#include "portable.h"
#include "winograd_tiles.h"

namespace featx::cpu::winograd {

typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(64), may_alias));

FEATX_BODY void add_scaled(Lanes& sum, bool& first, float factor, const Lanes& value) {
  if (factor == 0) return;
  const Lanes term = factor == 1 ? value : factor == -1 ? -value : value * factor;
  sum = first ? term : sum + term;
  first = false;
}

// `count` of the 16 channels exist.
FEATX_BODY void load(Lanes& to, const float* from, int64_t count) {
  if (count == kLanes) {
    __builtin_memcpy(&to, from, sizeof(Lanes));
  } else {
    to = Lanes{};
    std::memcpy(&to, from, count * sizeof(float));
  }
}

FEATX_BODY void store(float* to, const Lanes& from, int64_t count) {
  if (count == kLanes) __builtin_memcpy(to, &from, sizeof(Lanes));
  else std::memcpy(to, &from, count * sizeof(float));
}

// The input under a tile: pixel (i, j) is there for top <= i < bottom and left <= j < right, zero elsewhere.
struct Window {
  const float* pixels;
  int64_t down, across;  // floats from one pixel to the next
  int top, bottom, left, right;
};

// target(position) says where a vector of the result lies.
template <int R, int C, typename Target>
FEATX_BODY void transform_input(const Window& in, int64_t count, const Target& target) {
  constexpr int kRows = Transform<R>::kSize, kColumns = Transform<C>::kSize;
  Lanes half[kRows][kColumns];
#pragma GCC unroll 6
  for (int j = 0; j < kColumns; ++j) {
    Lanes pixel[kRows];
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const bool inside = i >= in.top && i < in.bottom && j >= in.left && j < in.right;
      if (inside) load(pixel[i], in.pixels + i * in.down + j * in.across, count);
      else pixel[i] = Lanes{};
    }
#pragma GCC unroll 6
    for (int p = 0; p < kRows; ++p) {
      Lanes sum{};
      bool first = true;
#pragma GCC unroll 6
      for (int i = 0; i < kRows; ++i) add_scaled(sum, first, Transform<R>::kInput[p][i], pixel[i]);
      half[p][j] = sum;
    }
  }
#pragma GCC unroll 6
  for (int p = 0; p < kRows; ++p) {
#pragma GCC unroll 6
    for (int q = 0; q < kColumns; ++q) {
      Lanes sum{};
      bool first = true;
#pragma GCC unroll 6
      for (int j = 0; j < kColumns; ++j) add_scaled(sum, first, Transform<C>::kInput[q][j], half[p][j]);
      *target(Transform<R>::kPoint[p] * kPoints + Transform<C>::kPoint[q]) = sum;
    }
  }
}

// source(position) says where a product lies; the first `rows` x `columns` outputs are wanted.
template <int R, int C, typename Source>
FEATX_BODY void transform_output(const Source& source, const Lanes& bias, bool relu, float* out, int64_t down,
                                 int64_t across, int64_t rows, int64_t columns, int64_t count) {
  constexpr int kRows = Transform<R>::kSize, kColumns = Transform<C>::kSize;
  Lanes half[R][kColumns];
#pragma GCC unroll 6
  for (int q = 0; q < kColumns; ++q) {
    Lanes product[kRows];
#pragma GCC unroll 6
    for (int p = 0; p < kRows; ++p) {
      product[p] = *source(Transform<R>::kPoint[p] * kPoints + Transform<C>::kPoint[q]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      Lanes sum{};
      bool first = true;
#pragma GCC unroll 6
      for (int p = 0; p < kRows; ++p) add_scaled(sum, first, Transform<R>::kOutput[i][p], product[p]);
      half[i][q] = sum;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      Lanes sum{};
      bool first = true;
#pragma GCC unroll 6
      for (int q = 0; q < kColumns; ++q) add_scaled(sum, first, Transform<C>::kOutput[j][q], half[i][q]);
      sum += bias;
      if (relu) sum = sum < Lanes{} ? Lanes{} : sum;  // a NaN stays
      if (i < rows && j < columns) store(out + i * down + j * across, sum, count);
    }
  }
}

}  // namespace featx::cpu::winograd
