// 3x3 convolution by Winograd's minimal filtering, float32, on CPUs that have a kernel for it.
#pragma once

#include "tensor.h"

namespace featx::cpu {

// 0 where this CPU has no kernel, 2 for AVX2, 5 for AVX-512.
int64_t winograd_level();

// x [B, C, H, W]; weight as packed by featx/ops/winograd.py; level 0 is the best there is.
Tensor winograd_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, int64_t dilation, bool relu,
                     int64_t level);

}  // namespace featx::cpu
