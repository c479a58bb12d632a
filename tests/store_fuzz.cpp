// Feeds damaged files to the compiled reader of stores, under AddressSanitizer: tests/test_gather_fuzz.py compiles it
// with csrc/store and runs it. Every buffer is as long as it must be and no longer, so a byte too far is an error.
//
//   store_fuzz CASE SEED ROUNDS       CASE is a file of numbers and bytes that the test writes; see read_case.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu.h"
#include "words.h"

using namespace featx::store;

namespace {

using Bytes = std::vector<Byte>;

struct Case {
  std::vector<int64_t> schema_words, shard_words, batch_words;
  std::vector<int64_t> field_bytes;  // of one record, in the batch
  std::vector<Bytes> keys;
  Bytes file;
  std::vector<int64_t> weak;  // where in the file its structure is, which is where it is harmed most
  std::vector<int64_t> values;  // of each record, where its length is, twice, and where it begins
};

class Input {
 public:
  explicit Input(const char* path) : file_(path, std::ios::binary) {}

  int64_t number() {
    int64_t value = 0;
    file_.read(reinterpret_cast<char*>(&value), sizeof value);
    if (!file_) std::abort();
    return value;
  }

  std::vector<int64_t> numbers() {
    std::vector<int64_t> values(number());
    for (int64_t& value : values) value = number();
    return values;
  }

  Bytes bytes() {
    Bytes value(number());
    file_.read(reinterpret_cast<char*>(value.data()), value.size());
    if (!file_) std::abort();
    return value;
  }

 private:
  std::ifstream file_;
};

Case read_case(const char* path) {
  Input input(path);
  Case given;
  given.schema_words = input.numbers();
  given.shard_words = input.numbers();
  given.batch_words = input.numbers();
  given.field_bytes = input.numbers();
  const int64_t keys = input.number();
  for (int64_t i = 0; i < keys; ++i) given.keys.push_back(input.bytes());
  given.weak = input.numbers();
  given.values = input.numbers();
  given.file = input.bytes();
  return given;
}

using Random = std::mt19937_64;

void harm(Bytes& file, const std::vector<int64_t>& weak, Random& random) {
  for (uint64_t left = 1 + random() % 4; left > 0; --left) {
    const uint64_t place = random() % 4 ? weak[random() % weak.size()] : random() % file.size();
    if (random() % 2) {
      file[place] ^= 1 << random() % 8;
    } else {
      const Byte values[] = {0, 1, 0x7f, 0x80, 0xff, static_cast<Byte>(random())};
      for (uint64_t i = place; i < std::min<uint64_t>(place + 1 + random() % 8, file.size()); ++i) {
        file[i] = values[random() % 6];
      }
    }
  }
}

// A record that claims to be longer than it is, in all three places that must agree before anybody believes it.
void stretch(Bytes& file, const std::vector<int64_t>& values, Random& random) {
  if (values.empty() || random() % 2) return;
  const int64_t* value = values.data() + random() % (values.size() / 3) * 3;
  save(file.data() + value[0], static_cast<uint32_t>(random() >> (32 + random() % 24)));
  save(file.data() + value[1], static_cast<uint32_t>(random() % 2 ? random() : 1 + random() % 16));
  save(file.data() + value[2] + 8, static_cast<uint32_t>(random() % (random() % 2 ? 40 : 700)));
  save(file.data() + value[2] + 12, static_cast<uint32_t>(random() % 4 ? random() % 40 : random()));
}

// The shards with addresses in this copy of the file: where the test wrote an offset, minus one, is an address.
std::vector<int64_t> placed(std::vector<int64_t> words, const Byte* file, Byte* marks) {
  const auto kind = static_cast<Shard::Kind>(words[0]);
  words[1] = reinterpret_cast<int64_t>(marks);
  if (kind != Shard::Kind::columns) words[2] += reinterpret_cast<int64_t>(file);
  if (kind == Shard::Kind::tree) return words;
  for (size_t i = 6; i < words.size(); ++i) words[i] += reinterpret_cast<int64_t>(file);
  return words;
}

uint64_t once(const Case& given, Random& random) {
  const std::unique_ptr<Byte[]> file(new Byte[given.file.size()]);
  Bytes changed = given.file;
  if (random() % 4) harm(changed, given.weak, random);
  if (random() % 4) stretch(changed, given.values, random);
  std::copy(changed.begin(), changed.end(), file.get());
  const std::unique_ptr<Byte[]> marks(new Byte[given.file.size() / 64 + 1]());

  const size_t n = 1 + random() % 8;
  std::vector<Bytes> names;
  for (size_t i = 0; i < n; ++i) names.push_back(given.keys[random() % given.keys.size()]);
  std::vector<Key> keys;
  for (const Bytes& name : names) keys.push_back({name.data(), name.size()});
  std::vector<Place> places(n);
  for (Place& place : places) place = {Status::absent, 0, 0, 0, 0, 0, 0, 0};

  const Schema schema = schema_from(given.schema_words.data(), given.schema_words.size());
  const auto words = placed(given.shard_words, file.get(), marks.get());
  const auto shards = shards_from(words.data(), words.size(), schema.slots.size());
  Batch batch = batch_from(given.batch_words.data(), given.batch_words.size(), schema.fields.size());
  batch.checksums = static_cast<Checksums>(random() % 3);
  batch.unit = random() % 2;
  batch.stream = random() % 2;
  std::vector<std::unique_ptr<Byte[]>> memory;
  const auto tensor = [&](size_t size) {
    memory.emplace_back(new Byte[size]);
    return memory.back().get();
  };
  batch.mask = tensor(n * batch.rows);
  batch.sizes = reinterpret_cast<float*>(tensor(n * 2 * sizeof(float)));
  for (size_t i = 0; i < batch.fields.size(); ++i) {
    batch.fields[i] = i < 2 || random() % 4 ? tensor(n * given.field_bytes[i]) : nullptr;
  }
  if (random() % 3 == 0) {  // some rows of each record; some that it has not
    const uint64_t width = 1 + random() % 12;
    auto* rows = reinterpret_cast<int64_t*>(tensor(n * width * sizeof(int64_t)));
    auto* counts = reinterpret_cast<int64_t*>(tensor(n * sizeof(int64_t)));
    for (size_t i = 0; i < n * width; ++i) rows[i] = random() % 8 ? static_cast<int64_t>(random() % 4) : static_cast<int64_t>(random());
    for (size_t i = 0; i < n; ++i) counts[i] = random() % 8 ? static_cast<int64_t>(random() % (width + 1)) : static_cast<int64_t>(random());
    batch.choice = {rows, counts, width};
  }
  level() = static_cast<Level>(random() % (static_cast<int>(best_level()) + 1));
  gather(schema, shards, keys.data(), places.data(), n, &batch, 1 + random() % 3);
  gather(schema, shards, keys.data(), places.data(), n, random() % 2 ? &batch : nullptr, 1);  // some are located already
  uint64_t good = 0;
  for (const Place& place : places) good += place.status == Status::good;
  return good;
}

}  // namespace

int main(int, char** arguments) {
  const Case given = read_case(arguments[1]);
  Random random(std::stoull(arguments[2]));
  uint64_t good = 0;
  const int rounds = std::stoi(arguments[3]);
  for (int round = 0; round < rounds; ++round) good += once(given, random);
  std::printf("%llu\n", static_cast<unsigned long long>(good));
}
