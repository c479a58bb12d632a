// The head of a request, as strictly as it can be read: what is not plain is for others to understand or to refuse.
#pragma once

#include <cstddef>
#include <string_view>

namespace featx::lane {

constexpr size_t kLongestHead = 8192;  // bytes

enum class Reading { more, plain, other };

// A GET or HEAD of one record that asks for nothing else. Views are into the bytes that were read; empty: not there.
struct Request {
  bool head = false;            // HEAD, and not GET
  std::string_view store, key;  // as they stand in the address
  std::string_view host, authorization, accept, tag;
  size_t length = 0;  // bytes up to the end of the head
};

// Reads the first request in `bytes`. more: its head is not whole, and is plain so far.
Reading read(std::string_view bytes, Request& request);

// Whether both are the same when the case of letters does not matter. `lower` has none that are upper.
bool same_word(std::string_view word, std::string_view lower);

}  // namespace featx::lane
