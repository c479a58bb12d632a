#include "lane.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <utility>

namespace featx::lane {
namespace {

constexpr size_t kRoom = 16384;  // bytes that are read at a time
constexpr int kEvents = 64;
constexpr int kSweep = 250;               // milliseconds between two looks at who is late
constexpr std::chrono::seconds kRest{1};  // when no more files can be opened

}  // namespace

Lane::Lane(int listener, Limits limits, Admission admission, std::vector<double> bounds)
    : listener_(listener), limits_(limits), admission_(std::move(admission)), counts_(std::move(bounds)), room_(kRoom) {
  try {
    poll_ = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    wake_ = must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
    bell_ = must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &wake_;
    must(epoll_ctl(poll_, EPOLL_CTL_ADD, wake_, &event), "epoll_ctl");
  } catch (...) {
    for (const int file : {poll_, wake_, bell_}) {
      if (file >= 0) ::close(file);
    }
    throw;
  }
}

void Lane::start() {
  listen_again();
  if (!listening_) must(-1, "epoll_ctl");
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the interpreter's own threads
  try {
    thread_ = std::thread(&Lane::run, this);
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Lane::~Lane() {
  end();
  for (const Handed& handed : handed_) ::close(handed.file);
  for (const int file : {poll_, wake_, bell_}) ::close(file);
}

std::vector<Handed> Lane::taken() {
  silence(bell_);
  const std::lock_guard<std::mutex> guard(mutex_);
  return std::exchange(handed_, {});
}

void Lane::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  ring(wake_);
  std::unique_lock<std::mutex> guard(mutex_);
  stopped_.wait(guard, [this] { return quiet_; });
}

void Lane::end() {
  ending_ = stopping_ = true;
  ring(wake_);
  if (thread_.joinable()) thread_.join();
}

void Lane::run() {
  while (!ending_ && !(stopping_ && quiet_ && connections_.empty())) {
    take_events(!again_.empty() ? 0 : connections_.empty() && listening_ ? -1 : kSweep);
    for (Connection* connection : std::exchange(again_, {})) drive(*connection);
    if (stopping_ && !quiet_) close_idle();
    const auto now = Clock::now();
    if (now - swept_ > std::chrono::milliseconds(kSweep)) {
      swept_ = now;
      close_late();
      if (!listening_ && !stopping_ && now > relisten_) listen_again();
    }
  }
  close_all();
}

void Lane::take_events(int milliseconds) {
  epoll_event events[kEvents];
  const int count = epoll_wait(poll_, events, kEvents, milliseconds);
  bool waiting = false;
  for (int i = 0; i < count; ++i) {
    if (events[i].data.ptr == &wake_) {
      silence(wake_);
    } else if (events[i].data.ptr == &listening_) {
      waiting = true;
    } else {
      auto& connection = *static_cast<Connection*>(events[i].data.ptr);
      const auto what = events[i].events;
      if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) connection.readable = true;
      if (what & (EPOLLOUT | EPOLLHUP | EPOLLERR)) connection.writable = true;
      if (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) connection.ended = true;
      drive(connection);
    }
  }
  if (waiting) accept_one();
}

// One at a time, and then to the end of the line: the next is for another process.
void Lane::accept_one() {
  if (stopping_) return;
  const int file = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (file < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      epoll_ctl(poll_, EPOLL_CTL_DEL, listener_, nullptr);
      listening_ = false;
      relisten_ = Clock::now() + kRest;
    }
    return;
  }
  epoll_ctl(poll_, EPOLL_CTL_DEL, listener_, nullptr);
  listen_again();
  const int on = 1;
  setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  std::unique_ptr<Connection> made;
  try {
    made = std::make_unique<Connection>();
    connections_.insert(made.get());
  } catch (const std::bad_alloc&) {
    ::close(file);
    return;
  }
  Connection& connection = *made.release();
  connection.file = file;
  connection.latest = Clock::now() + span(limits_.patience);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &connection;
  open_ = connections_.size();
  if (epoll_ctl(poll_, EPOLL_CTL_ADD, file, &event) != 0) return close(connection);
  drive(connection);
}

void Lane::listen_again() {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;  // of the processes that wait, the first in line is woken
  event.data.ptr = &listening_;
  listening_ = epoll_ctl(poll_, EPOLL_CTL_ADD, listener_, &event) == 0;
  relisten_ = Clock::now() + kRest;
}

void Lane::close_idle() {
  epoll_ctl(poll_, EPOLL_CTL_DEL, listener_, nullptr);
  for (Connection* connection : std::vector<Connection*>(connections_.begin(), connections_.end())) {
    if (!connection->served) close(*connection);
  }
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    quiet_ = true;
  }
  stopped_.notify_all();
}

void Lane::close_late() {
  const auto now = Clock::now();
  for (Connection* connection : std::vector<Connection*>(connections_.begin(), connections_.end())) {
    if (!connection->served && connection->latest < now) close(*connection);
  }
}

void Lane::close_all() {
  for (Connection* connection : std::vector<Connection*>(connections_.begin(), connections_.end())) close(*connection);
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    quiet_ = true;
  }
  stopped_.notify_all();
}

}  // namespace featx::lane
