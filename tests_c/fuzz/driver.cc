// Runs a fuzz target without libFuzzer: on each file of a corpus, and on RUNS mutations of them,
// which a seed decides. It is what every run of the tests can afford; libFuzzer looks for longer.
//
//   http_fuzz CORPUS RUNS [SEED]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kMaxBytes = 4096;

class Mutator {
 public:
  Mutator(std::vector<std::string> corpus, uint64_t seed)
      : corpus_(std::move(corpus)), random_(seed) {}

  std::string Next() {
    std::string bytes = One();
    for (size_t rounds = 1 + Below(4); rounds > 0; rounds--) Mutate(&bytes);
    bytes.resize(std::min(bytes.size(), kMaxBytes));
    return bytes;
  }

 private:
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  const std::string& One() { return corpus_[Below(corpus_.size())]; }

  void Mutate(std::string* bytes) {
    const size_t at = Below(bytes->size() + 1);
    const size_t some = Below(std::min<size_t>(bytes->size() - at, 32) + 1);
    switch (Below(6)) {
      case 0:  // another byte
        if (at < bytes->size()) (*bytes)[at] = static_cast<char>(random_());
        break;
      case 1:  // another bit
        if (at < bytes->size()) (*bytes)[at] = static_cast<char>((*bytes)[at] ^ (1 << Below(8)));
        break;
      case 2:  // some less
        bytes->erase(at, some);
        break;
      case 3:  // some twice
        bytes->insert(at, bytes->substr(at, some));
        break;
      case 4: {  // some of another
        const std::string& other = One();
        const size_t from = Below(other.size() + 1);
        bytes->insert(at, other.substr(from, Below(64)));
        break;
      }
      default: {  // what grammars care about
        static const std::vector<std::string> kTokens = {
            "\r\n", "\n", "\r", "\t", " ",  ":", ",",
            "\"",   "{",  "[",  "]",  "}",  "*", "$",
            "-1",   "0",  "99", "#",  "\\", "=", "18446744073709551616"};
        bytes->insert(at, kTokens[Below(kTokens.size())]);
      }
    }
  }

  const std::vector<std::string> corpus_;
  std::mt19937_64 random_;
};

void Run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) {
    fprintf(stderr, "usage: %s CORPUS RUNS [SEED]\n", words[0]);
    return 2;
  }
  std::vector<std::string> corpus;
  for (const auto& entry : std::filesystem::directory_iterator(words[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::sort(corpus.begin(), corpus.end());  // directories have no order
  if (corpus.empty()) return 1;
  for (const std::string& one : corpus) Run(one);
  const unsigned long long runs = std::strtoull(words[2], nullptr, 10);
  Mutator mutator(corpus, count > 3 ? std::strtoull(words[3], nullptr, 10) : 1);
  for (unsigned long long run = 0; run < runs; run++) Run(mutator.Next());
  printf("%zu files, %llu mutations\n", corpus.size(), runs);
  return 0;
}
