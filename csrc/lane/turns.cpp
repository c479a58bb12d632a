// What a lane does with one connection when it is its turn.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <utility>

#include "lane.h"

namespace featx::lane {
namespace {

constexpr int kTurn = 16;               // requests of one connection before others have their turn
constexpr size_t kDiscarded = 1 << 20;  // bytes that are read before a connection is closed

// What waits to be read would make the system throw away what was sent and has not arrived.
void discard(int file, std::vector<char>& room) {
  size_t all = 0;
  while (all < kDiscarded) {
    const ssize_t count = recv(file, room.data(), room.size(), 0);
    if (count <= 0) return;
    all += static_cast<size_t>(count);
  }
}

bool again(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

void Lane::drive(Connection& connection) {
  try {
    for (int turn = 0; turn < kTurn; ++turn) {
      switch (step(connection)) {
        case Next::go_on: break;
        case Next::wait: return;
        case Next::close: return close(connection);
        case Next::hand_over: return hand_over(connection);
      }
    }
    again_.insert(&connection);
  } catch (const std::exception&) {  // no memory
    close(connection);
  }
}

Lane::Next Lane::step(Connection& connection) {
  if (connection.served) return connection.writable ? write(connection) : Next::wait;
  const Next next = understand(connection);
  return next == Next::wait && connection.readable ? read(connection) : next;
}

Lane::Next Lane::understand(Connection& connection) {
  Request request;
  const Reading reading = connection.in.empty() ? Reading::more : lane::read(connection.in, request);
  if (reading == Reading::more) return Next::wait;
  connection.asked = Clock::now();
  if (reading == Reading::other || !admission_.admits(request)) return Next::hand_over;
  auto served = stores_.find(request.store);
  if (!served || !served->answer(request, connection.answer)) return Next::hand_over;
  connection.served = std::move(served);
  connection.sent = 0;
  connection.in.erase(0, request.length);
  return Next::go_on;
}

Lane::Next Lane::read(Connection& connection) {
  const ssize_t count = recv(connection.file, room_.data(), room_.size(), 0);
  if (count < 0 && errno == EINTR) return Next::go_on;
  if (count < 0 && again(errno)) {
    connection.readable = false;
    return Next::wait;
  }
  if (count <= 0) return Next::close;
  if (static_cast<size_t>(count) < room_.size() && !connection.ended) connection.readable = false;
  if (!connection.begun) {
    connection.begun = true;
    connection.latest = Clock::now() + span(limits_.patience);
  }
  connection.in.append(room_.data(), static_cast<size_t>(count));
  return Next::go_on;
}

Lane::Next Lane::write(Connection& connection) {
  const Answer& answer = connection.answer;
  const size_t head = answer.head.size(), whole = head + answer.size, sent = connection.sent;
  iovec pieces[2];
  int count = 0;
  if (sent < head) pieces[count++] = {const_cast<char*>(answer.head.data()) + sent, head - sent};
  if (const size_t behind = sent > head ? sent - head : 0; behind < answer.size) {
    pieces[count++] = {const_cast<store::Byte*>(answer.body) + behind, answer.size - behind};
  }
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = static_cast<size_t>(count);
  const ssize_t done = sendmsg(connection.file, &message, MSG_NOSIGNAL);
  if (done < 0 && errno == EINTR) return Next::go_on;
  if (done < 0 && !again(errno)) return Next::close;
  connection.sent += done < 0 ? 0 : static_cast<size_t>(done);
  if (connection.sent == whole) return finish(connection);
  if (done > 0) return Next::go_on;  // a full buffer says so the next time; a file that was cut fails then
  connection.writable = false;  // its buffer is full
  return Next::wait;
}

Lane::Next Lane::finish(Connection& connection) {
  counts_.note(connection.answer.kind, connection.answer.size, since(connection.asked));
  connection.served.reset();
  connection.begun = !connection.in.empty();
  connection.latest = Clock::now() + span(connection.begun ? limits_.patience : limits_.keep_alive);
  return stopping_ ? Next::close : Next::go_on;
}

void Lane::close(Connection& connection) {
  if (connection.served) {
    const size_t head = connection.answer.head.size(), sent = connection.sent;
    counts_.note(connection.answer.kind, sent > head ? sent - head : 0, since(connection.asked));
  }
  discard(connection.file, room_);
  // A forked child may hold the file still: it would stay in the set, and the client without an end.
  epoll_ctl(poll_, EPOLL_CTL_DEL, connection.file, nullptr);
  shutdown(connection.file, SHUT_RDWR);
  ::close(connection.file);
  again_.erase(&connection);
  connections_.erase(&connection);
  open_ = connections_.size();
  delete &connection;
}

void Lane::hand_over(Connection& connection) {
  if (stopping_) return close(connection);
  epoll_ctl(poll_, EPOLL_CTL_DEL, connection.file, nullptr);
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    handed_.push_back({connection.file, std::move(connection.in)});
  }
  ring(bell_);
  again_.erase(&connection);
  connections_.erase(&connection);
  open_ = connections_.size();
  delete &connection;
}

}  // namespace featx::lane
