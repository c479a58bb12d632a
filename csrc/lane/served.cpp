#include "served.h"

#include <algorithm>
#include <utility>

namespace featx::lane {
namespace {

using std::string_view;
using store::Byte;

constexpr size_t kLongestKey = 400;  // bytes of a key that is stored as it is
constexpr size_t kChecksum = 40;     // where it stands in a record
constexpr size_t kDigits = 16;
constexpr string_view kBearer = "bearer ";
constexpr char kHex[] = "0123456789abcdef";

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The key that an address names, if it is stored as it is: plain ASCII and not long.
bool read_key(string_view address, Byte* key, size_t& size) {
  size = 0;
  for (size_t i = 0; i < address.size(); ++i, ++size) {
    int c = static_cast<unsigned char>(address[i]);
    if (c == '%') {
      if (i + 2 >= address.size()) return false;
      const int high = digit(address[i + 1]), low = digit(address[i + 2]);
      if (high < 0 || low < 0) return false;
      c = high * 16 + low;
      i += 2;
    }
    if (size == kLongestKey || c < ' ' || c > '~') return false;
    key[size] = static_cast<Byte>(c);
  }
  return size > 0;
}

std::string hex(uint64_t number) {
  std::string text(kDigits, '0');
  for (size_t i = kDigits; i-- > 0; number >>= 4) text[i] = kHex[number & 15];
  return text;
}

// Whether it is one strong tag of ours; anything else, lists and stars among it, is for others to compare.
bool is_tag(string_view tag) {
  if (tag.size() != kDigits + 2 || tag.front() != '"' || tag.back() != '"') return false;
  const string_view digits = tag.substr(1, kDigits);
  return std::all_of(digits.begin(), digits.end(), [](char c) { return digit(c) >= 0 && (c < 'A' || c > 'F'); });
}

std::string written(const Form& form, const std::string& checksum, size_t size) {
  std::string head;
  head.reserve(form.before.size() + form.between.size() + form.after.size() + 64);
  head.append(form.before).append(checksum).append(form.between);
  if (form.sized) head.append(std::to_string(size));
  return head.append(form.after);
}

// Takes a time that depends on what was given, and not on the secret.
bool same_secret(string_view given, string_view secret) {
  volatile unsigned differs = given.size() != secret.size();
  for (size_t i = 0; i < given.size(); ++i) {
    differs = differs | static_cast<unsigned>(static_cast<unsigned char>(given[i] ^ secret[i % secret.size()]));
  }
  return differs == 0;
}

// ``localhost`` of ``localhost:8000``.
string_view host_name(string_view host) {
  const size_t bracket = host.find(']');
  return bracket != string_view::npos ? host.substr(0, bracket + 1) : host.substr(0, host.find(':'));
}

}  // namespace

void Kept::add(void* owner) {
  const std::lock_guard<std::mutex> guard(mutex_);
  owners_.push_back(owner);
}

std::vector<void*> Kept::all() {
  const std::lock_guard<std::mutex> guard(mutex_);
  return std::exchange(owners_, {});
}

Served::~Served() {
  if (kept) kept->add(owner);
}

bool Served::answer(const Request& request, Answer& answer) const {
  Byte bytes[kLongestKey];
  store::Key key{bytes, 0};
  if (!read_key(request.key, bytes, key.size) || !(request.tag.empty() || is_tag(request.tag))) return false;
  store::Place place{};
  place.status = store::Status::absent;
  store::gather(schema, shards, &key, &place, 1, nullptr, 1);
  if (place.status != store::Status::good || !whole[static_cast<size_t>(place.shard)]) return false;
  const auto* record = reinterpret_cast<const Byte*>(place.at);
  const std::string checksum = hex(store::load<uint64_t>(record + kChecksum));
  if (!request.tag.empty() && request.tag.substr(1, kDigits) == checksum) {
    answer = {written(same, checksum, 0), nullptr, 0, request.head ? kSameToHead : kSameToGet};
    return true;
  }
  const Form& form = request.head || !request.tag.empty() ? told : plain;
  answer = {written(form, checksum, place.size), record, place.size, request.head ? kHeaded : kGot};
  if (request.head) answer.size = 0;
  return true;
}

void Stores::put(const std::string& name, std::shared_ptr<const Served> served) {
  const std::lock_guard<std::mutex> guard(mutex_);
  all_[name].swap(served);  // the one before is let go of when nobody waits for us
}

std::shared_ptr<const Served> Stores::find(string_view name) const {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto found = all_.find(std::string(name));
  return found == all_.end() ? nullptr : found->second;
}

void Stores::clear() {
  const std::lock_guard<std::mutex> guard(mutex_);
  all_.clear();
}

bool Admission::admits(const Request& request) const {
  const string_view accept = request.accept;
  if (!accept.empty() && std::find(accepted.begin(), accepted.end(), accept) == accepted.end()) return false;
  if (!token.empty()) {
    const string_view given = request.authorization;
    return given.size() > kBearer.size() && same_word(given.substr(0, kBearer.size()), kBearer) &&
           same_secret(given.substr(kBearer.size()), token);
  }
  const string_view host = host_name(request.host);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return same_word(host, name); });
}

}  // namespace featx::lane
