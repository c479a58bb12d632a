// Winograd's minimal filtering (Lavin & Gray 2016) for 3x3 kernels, by evaluation at the points 0, 1, -1, 1/2, -2 and
// infinity (F(4,3); Barabasz et al. 2020 for the choice), and all of them but -2 (F(3,3)). The kernel's transform at a
// point is the same for both: what differs, the factor of the point left out, is in the input's transform. So both sizes
// of tile share one set of transformed weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace featx::cpu::winograd {

constexpr int64_t kLanes = 16;     // channels that are worked on together
constexpr int64_t kPoints = 6;     // per axis, of F(4,3)
constexpr int64_t kPositions = kPoints * kPoints;
constexpr int kDropped = 4;        // the point that F(3,3) does without

template <int M>
struct Transform;

// Rows: points in their order. input: n x n, output: M x n, n = M + 2.
template <>
struct Transform<4> {
  static constexpr int kSize = 6;
  static constexpr int kPoint[6] = {0, 1, 2, 3, 4, 5};
  static constexpr float kInput[6][6] = {{1, -1.5f, -2, 1.5f, 1, 0},     {0, -1, 0.5f, 2.5f, 1, 0},
                                         {0, 1, -2.5f, 0.5f, 1, 0},      {0, -2, -1, 2, 1, 0},
                                         {0, 0.5f, -1, -0.5f, 1, 0},     {0, 1, -1.5f, -2, 1.5f, 1}};
  static constexpr float kOutput[4][6] = {
      {1, 1, 1, 1, 1, 0}, {0, 1, -1, 0.5f, -2, 0}, {0, 1, 1, 0.25f, 4, 0}, {0, 1, -1, 0.125f, -8, 1}};
};

// Row i is that of F(3,3) times (p_i + 2).
template <>
struct Transform<3> {
  static constexpr int kSize = 5;
  static constexpr int kPoint[5] = {0, 1, 2, 3, 5};
  static constexpr float kInput[5][5] = {{1, -2, -1, 2, 0},
                                         {0, -1.5f, 1.5f, 3, 0},
                                         {0, 0.5f, -1.5f, 1, 0},
                                         {0, -2.5f, 0, 2.5f, 0},
                                         {0, 0.5f, -1, -0.5f, 1}};
  static constexpr float kOutput[3][5] = {{1, 1, 1, 1, 0}, {0, 1, -1, 0.5f, 0}, {0, 1, 1, 0.25f, 1}};
};

// One axis of a plane, cut into pieces of 4 and 3 outputs; the last piece may reach past the end.
struct Piece {
  int64_t begin;
  int size;
};

inline std::vector<Piece> pieces_of(int64_t length) {
  const int64_t count = (length + 3) / 4, fours = std::max<int64_t>(0, length - 3 * count);
  std::vector<Piece> pieces;
  for (int64_t i = 0, at = 0; i < count; ++i) {
    pieces.push_back({at, i < fours ? 4 : 3});
    at += pieces.back().size;
  }
  return pieces;
}

// Outputs of one tile, in pixels of the map: origin + i * dilation.
struct Tile {
  int64_t picture, y, x;     // of its first output
  int64_t plane_y, plane_x;  // the same counted within the plane of every dilation-th pixel
  int rows, columns;         // 4 or 3 each
};

// Tiles in an order in which those of four rows lie together, and those of four columns, too.
inline int order_of(const Tile& tile) {
  return tile.rows == 4 ? (tile.columns == 4 ? 1 : 0) : (tile.columns == 4 ? 2 : 3);
}

}  // namespace featx::cpu::winograd
