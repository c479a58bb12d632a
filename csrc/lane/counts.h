// What was answered since somebody asked last.
#pragma once

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>
#include <vector>

#include "served.h"

namespace featx::lane {

struct Tally {
  std::array<uint64_t, kKinds> requests{}, bytes{};
  std::vector<uint64_t> times;  // requests that took up to each bound and longer than the one before, and longer ones
  double seconds = 0;
};

class Counts {
 public:
  explicit Counts(std::vector<double> bounds) : bounds_(std::move(bounds)) { reset(); }

  void note(Kind kind, uint64_t bytes, double seconds) {
    const std::lock_guard<std::mutex> guard(mutex_);
    ++tally_.requests[kind];
    tally_.bytes[kind] += bytes;
    ++tally_.times[std::lower_bound(bounds_.begin(), bounds_.end(), seconds) - bounds_.begin()];
    tally_.seconds += seconds;
  }

  Tally taken() {
    const std::lock_guard<std::mutex> guard(mutex_);
    Tally all = std::move(tally_);
    reset();
    return all;
  }

 private:
  void reset() {
    tally_ = Tally{};
    tally_.times.assign(bounds_.size() + 1, 0);
  }

  std::mutex mutex_;
  const std::vector<double> bounds_;  // ascending
  Tally tally_;
};

}  // namespace featx::lane
