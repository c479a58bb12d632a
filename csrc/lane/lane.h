// A thread that accepts connections and answers plain requests for records, without Python. A connection that asks for
// anything else is handed over, with what was read of it, and never comes back.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "counts.h"
#include "served.h"
#include "system.h"

namespace featx::lane {

// A connection whose next request is for Python: its bytes, from the first of that request on.
struct Handed {
  int file;
  std::string bytes;
};

// One client. Either its next request is read, or an answer is written.
struct Connection {
  int file;
  std::string in;                         // read, and not understood yet
  bool readable = true, writable = true;  // as far as is known: edges are told only once
  bool ended = false;                     // the other side sends no more, or is gone
  bool begun = true;                      // the time for a request runs, and not that between two
  Clock::time_point latest;               // by which its next request must be whole
  std::shared_ptr<const Served> served;   // keeps the bytes of the answer that is under way; none: no answer is
  Answer answer;
  size_t sent = 0;
  Clock::time_point asked;
};

struct Limits {
  double patience, keep_alive;  // seconds for the head of a request, and between two requests
};

class Lane {
 public:
  // `listener` listens and does not block. Throws std::system_error, as does start, from which on it accepts.
  Lane(int listener, Limits limits, Admission admission, std::vector<double> bounds);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  void start();

  Stores& stores() { return stores_; }
  Counts& counts() { return counts_; }
  const std::shared_ptr<Kept>& kept() const { return kept_; }

  // Can be read when there is something to take.
  int bell() const { return bell_; }
  std::vector<Handed> taken();

  // Returns when no connection is accepted any more, and only those are left whose answer is under way.
  void stop();
  size_t open() const { return open_.load(); }
  // Ends what is left.
  void end();

 private:
  enum class Next { go_on, wait, close, hand_over };

  void run();
  void take_events(int milliseconds);
  void accept_one();
  void listen_again();
  void drive(Connection& connection);
  Next step(Connection& connection);
  Next understand(Connection& connection);
  Next read(Connection& connection);
  Next write(Connection& connection);
  Next finish(Connection& connection);
  void close(Connection& connection);
  void hand_over(Connection& connection);
  void close_idle();
  void close_late();
  void close_all();

  const int listener_;
  const Limits limits_;
  const Admission admission_;
  Stores stores_;
  Counts counts_;
  const std::shared_ptr<Kept> kept_ = std::make_shared<Kept>();

  int poll_ = -1, wake_ = -1, bell_ = -1;
  bool listening_ = false;
  Clock::time_point relisten_, swept_;
  std::unordered_set<Connection*> connections_;
  std::unordered_set<Connection*> again_;  // that have more to do than their turn was long
  std::vector<char> room_;

  std::mutex mutex_;
  std::condition_variable stopped_;
  std::vector<Handed> handed_;
  bool quiet_ = false;  // it has stopped
  std::atomic<bool> stopping_{false}, ending_{false};
  std::atomic<size_t> open_{0};
  std::thread thread_;
};

}  // namespace featx::lane
