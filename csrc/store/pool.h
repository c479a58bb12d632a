// Threads that wait for work: starting them anew for every batch costs as much as half a batch.
#pragma once

#include <cstdint>
#include <functional>

namespace featx::store {

// Runs task(0) ... task(count - 1) on up to `threads` threads, the caller's among them. While other work is under way,
// or where no thread can be started, the caller does all. A forked child gets threads of its own.
void parallel(int64_t count, int64_t threads, const std::function<void(int64_t)>& task);

}  // namespace featx::store
