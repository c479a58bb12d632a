#include "pool.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace featx::store {
namespace {

constexpr int64_t kMostThreads = 64;

class Pool {
 public:
  // The pool of this process. That of a parent is left alone: its threads are not here, its locks may be held for ever.
  static Pool& here() {
    static std::atomic<Pool*> current{nullptr};
    Pool* pool = current.load();
    while (pool == nullptr || pool->process_ != getpid()) {
      auto* fresh = new Pool;
      if (current.compare_exchange_strong(pool, fresh)) return *fresh;
      delete fresh;
    }
    return *pool;
  }

  bool run(int64_t count, int64_t threads, const std::function<void(int64_t)>& task) {
    const std::unique_lock<std::mutex> owner(busy_, std::try_to_lock);
    if (!owner) return false;
    {
      const std::lock_guard<std::mutex> guard(mutex_);
      hire(threads - 1);
      task_ = &task;
      count_ = count;
      next_ = 0;
      places_ = std::min(threads - 1, hired_);
      if (places_ == hired_) wake_.notify_all();
      else for (int64_t i = 0; i < places_; ++i) wake_.notify_one();
    }
    work();
    std::unique_lock<std::mutex> guard(mutex_);
    places_ = 0;  // who has not come by now need not
    done_.wait(guard, [this] { return working_ == 0; });
    return true;
  }

 private:
  void hire(int64_t wanted) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the interpreter's own threads
    try {
      for (; hired_ < wanted; ++hired_) std::thread(&Pool::serve, this).detach();
    } catch (const std::system_error&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void serve() {
    std::unique_lock<std::mutex> guard(mutex_);
    for (;;) {
      wake_.wait(guard, [this] { return places_ > 0; });
      --places_;
      ++working_;
      guard.unlock();
      work();
      guard.lock();
      if (--working_ == 0) done_.notify_one();
    }
  }

  void work() {
    for (int64_t i = next_++; i < count_; i = next_++) (*task_)(i);
  }

  const pid_t process_ = getpid();
  std::mutex busy_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int64_t)>* task_ = nullptr;
  int64_t count_ = 0, places_ = 0, working_ = 0, hired_ = 0;
  std::atomic<int64_t> next_{0};
};

}  // namespace

void parallel(int64_t count, int64_t threads, const std::function<void(int64_t)>& task) {
  threads = std::min({threads, count, kMostThreads});
  if (threads > 1 && Pool::here().run(count, threads, task)) return;
  for (int64_t i = 0; i < count; ++i) task(i);
}

}  // namespace featx::store
