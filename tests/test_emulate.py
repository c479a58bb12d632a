"""How the sources of the CUDA kernels become C++ that runs on the CPU. `make emulate` runs them all."""

from __future__ import annotations

import re

from tests import emulate

KERNEL = """
template <typename T>
__global__ void scale_kernel(const T* in, T* out) {
  out[threadIdx.x] = in[threadIdx.x] * 2;
}

__global__ void sum_kernel(const float* in, float* out) {
  extern __shared__ unsigned long long held[];
  __syncthreads();
}

void run() {
#ifdef __CUDACC__
  scale_kernel<T><<<blocks(n), 32, 0, launch.stream>>>(
      in.data<T>(), out.data<T>());
  sum_kernel<<<1, kThreads, words * sizeof(float), launch.stream>>>(in.data<float>(), out);
#endif
}
"""


def test_launches_are_calls_that_know_of_barriers() -> None:
    text = re.sub(r"\s+", " ", emulate.translated(KERNEL))
    assert "emulated::launch(false, blocks(n), 32, 0, launch.stream, [&] { scale_kernel<T>( in.data<T>()" in text
    assert "emulated::launch(true, 1, kThreads, words * sizeof(float), launch.stream, [&] { sum_kernel(in.data" in text
    assert "unsigned long long* held = reinterpret_cast<unsigned long long*>(emulated::shared.data());" in text
    assert "__CUDACC__" not in text


def test_no_launch_of_ours_is_left_over() -> None:
    for path in (emulate.ROOT / "csrc" / "cuda").iterdir():
        text = emulate.translated(path.read_text())
        assert "<<<" not in text, path.name
        assert "extern __shared__" not in text, path.name


def test_kernels_with_barriers_are_run_together() -> None:
    together = {
        name
        for path in (emulate.ROOT / "csrc" / "cuda").glob("*.cu")
        for name, body in emulate.bodies(path.read_text())
        if any(barrier in body for barrier in emulate.WITH_BARRIERS)
    }
    assert together == {"walk_kernel", "greedy_kernel"}


def test_only_the_kernels_of_cuda_are_registered() -> None:
    text = emulate.registered((emulate.ROOT / "csrc" / "library.cpp").read_text())
    assert text.count("STABLE_TORCH_LIBRARY_IMPL(featx, CPU, m)") == 1
    assert "FEATX_REGISTER(cuda)" in text
    assert "FEATX_REGISTER(cpu)" not in text
