// What the system is asked, in words.
#pragma once

#include <errno.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <system_error>

namespace featx::lane {

using Clock = std::chrono::steady_clock;

inline int must(int made, const char* what) {
  if (made < 0) throw std::system_error(errno, std::generic_category(), what);
  return made;
}

inline Clock::duration span(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

inline double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// A bell is a file that can be read once it was rung.
inline void ring(int bell) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(bell, &one, sizeof one);  // a full counter can be read as well
}

inline void silence(int bell) {
  uint64_t count;
  [[maybe_unused]] const ssize_t done = ::read(bell, &count, sizeof count);
}

}  // namespace featx::lane
