// The stores as they are at the moment, and the answers that can be given out of them.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "gather.h"
#include "request.h"

namespace featx::lane {

// What keeps the memory of a store where it is. It may be let go of by Python alone, and so it waits here until then.
class Kept {
 public:
  void add(void* owner);
  std::vector<void*> all();  // and none is left

 private:
  std::mutex mutex_;
  std::vector<void*> owners_;
};

// The head of an answer: checksum and length are put between the three.
struct Form {
  std::string before, between, after;
  bool sized;
};

enum Kind : size_t { kGot, kHeaded, kSameToGet, kSameToHead, kKinds };  // 200 and 200 without a body; 304 to each

struct Answer {
  std::string head;
  const store::Byte* body = nullptr;
  size_t size = 0;  // bytes of the body
  Kind kind = kGot;
};

// One opened store. Nothing in it changes.
struct Served {
  store::Schema schema;
  std::vector<store::Shard> shards;
  std::vector<bool> whole;    // of each shard: whether its records lie in it as they are stored
  Form plain, told, same;     // to a plain GET; to HEAD, or where another ETag was named; where that one was
  void* owner = nullptr;
  std::shared_ptr<Kept> kept;

  ~Served();
  // False where it is not for us to answer.
  bool answer(const Request& request, Answer& answer) const;
};

class Stores {
 public:
  void put(const std::string& name, std::shared_ptr<const Served> served);  // none: it cannot be read
  std::shared_ptr<const Served> find(std::string_view name) const;
  void clear();

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const Served>> all_;
};

// Who may ask: see featx/serve/guard.py. names: by which the server may be called, where there is no token.
struct Admission {
  std::vector<std::string> names;
  std::string token;
  std::vector<std::string> accepted;  // values of Accept for which bytes leave as they are stored

  bool admits(const Request& request) const;
};

}  // namespace featx::lane
