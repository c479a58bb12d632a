#include "request.h"

#include <algorithm>

namespace featx::lane {
namespace {

using std::string_view;

constexpr string_view kGet = "GET ", kHead = "HEAD ", kVersion = " HTTP/1.1", kFront = "/v1/stores/", kRecords = "records/";
constexpr string_view kLine = "\r\n";
constexpr string_view kSigns = "-._~!$&'()*+,;=:@/%";  // of a path, besides letters and digits
constexpr size_t kLongestName = 40;

// Headers that say nothing about what is to be sent.
constexpr string_view kPassedOver[] = {
    "accept-charset", "accept-encoding", "accept-language", "baggage", "cache-control", "cookie", "dnt", "forwarded",
    "from", "pragma", "priority", "referer", "traceparent", "tracestate", "user-agent", "via",
};
constexpr string_view kPassedOverFronts[] = {"x-", "sec-fetch-", "sec-ch-"};

bool begins(string_view text, string_view front) { return text.substr(0, front.size()) == front; }

bool alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool of_path(char c) { return alphanumeric(c) || kSigns.find(c) != string_view::npos; }

bool of_name(char c) { return alphanumeric(c) || c == '-'; }

bool printable(char c) { return c >= ' ' && c <= '~'; }

char lowered(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Whether one of both is the beginning of the other.
bool agree(string_view a, string_view b) { return begins(a, b) || begins(b, a); }

// Whether this may be the beginning of a first line of ours.
bool may_be_address(string_view line) {
  for (const string_view method : {kGet, kHead}) {
    if (!agree(line, method)) continue;
    if (line.size() <= method.size()) return true;
    const string_view rest = line.substr(method.size()), address = rest.substr(0, rest.find(' '));
    return agree(address, kFront) && std::all_of(address.begin(), address.end(), of_path) &&
           begins(kVersion, rest.substr(address.size()));
  }
  return false;
}

bool may_be_header(string_view line) {
  const string_view name = line.substr(0, line.find(':')), rest = line.substr(name.size());
  return name.size() <= kLongestName && (rest.empty() || !name.empty()) &&
         std::all_of(name.begin(), name.end(), of_name) && std::all_of(rest.begin(), rest.end(), printable);
}

bool read_address(string_view line, Request& request) {
  request.head = begins(line, kHead);
  if (!request.head && !begins(line, kGet)) return false;
  line.remove_prefix(request.head ? kHead.size() : kGet.size());
  if (line.size() < kVersion.size() || line.substr(line.size() - kVersion.size()) != kVersion) return false;
  line.remove_suffix(kVersion.size());
  if (!begins(line, kFront) || !std::all_of(line.begin(), line.end(), of_path)) return false;
  line.remove_prefix(kFront.size());
  const size_t slash = line.find('/');
  if (slash == string_view::npos || !begins(line.substr(slash + 1), kRecords)) return false;
  request.store = line.substr(0, slash);
  request.key = line.substr(slash + 1 + kRecords.size());
  return !request.store.empty() && !request.key.empty();
}

// A header that may be there once, and then says something.
bool take(string_view& place, string_view value) {
  const bool fresh = place.empty() && !value.empty();
  place = value;
  return fresh;
}

bool read_header(string_view line, Request& request, string_view& connection) {
  const size_t colon = line.find(':');
  char letters[kLongestName];
  if (colon == string_view::npos || colon == 0 || colon > kLongestName) return false;
  if (!std::all_of(line.begin(), line.begin() + colon, of_name)) return false;
  std::transform(line.begin(), line.begin() + colon, letters, lowered);
  const string_view name(letters, colon);
  string_view value = line.substr(colon + 1);
  if (!std::all_of(value.begin(), value.end(), printable)) return false;
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  if (!value.empty() && value.back() == ' ') return false;  // a part of it, or not
  if (name == "host") return take(request.host, value);
  if (name == "authorization") return take(request.authorization, value);
  if (name == "accept") return take(request.accept, value);
  if (name == "if-none-match") return take(request.tag, value);
  if (name == "connection") return take(connection, value) && same_word(value, "keep-alive");
  return std::find(std::begin(kPassedOver), std::end(kPassedOver), name) != std::end(kPassedOver) ||
         std::any_of(std::begin(kPassedOverFronts), std::end(kPassedOverFronts),
                     [&](string_view front) { return begins(name, front); });
}

}  // namespace

bool same_word(string_view word, string_view lower) {
  return word.size() == lower.size() &&
         std::equal(word.begin(), word.end(), lower.begin(), [](char a, char b) { return lowered(a) == b; });
}

Reading read(string_view bytes, Request& request) {
  string_view left = bytes.substr(0, kLongestHead), connection;
  request = Request{};
  for (bool first = true;; first = false) {
    const size_t size = left.find(kLine);
    if (size == string_view::npos) {
      if (bytes.size() >= kLongestHead) return Reading::other;
      if (!left.empty() && left.back() == '\r') left.remove_suffix(1);
      return (first ? may_be_address(left) : may_be_header(left)) ? Reading::more : Reading::other;
    }
    const string_view line = left.substr(0, size);
    left.remove_prefix(size + kLine.size());
    if (!first && line.empty()) {
      request.length = static_cast<size_t>(left.data() - bytes.data());
      return Reading::plain;
    }
    if (first ? !read_address(line, request) : !read_header(line, request, connection)) return Reading::other;
  }
}

}  // namespace featx::lane
