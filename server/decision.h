#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "calls.h"
#include "flint_limiter.h"
#include "rates.h"

namespace flint::server {

// Several limits that come with a check are configured as a template, which stays. So those who may
// only check could have the server keep any number of them: this counts how many are new.
class CarriedSets {
 public:
  static constexpr uint64_t kMost = 1024;

  bool full() const { return count_ >= kMost; }
  void Add() { count_++; }

 private:
  std::atomic<uint64_t> count_ = 0;
};

// One check or peek, and what came of it.
struct Decision {
  std::string key;
  uint64_t cost = 1;
  std::vector<Rate> rates;  // of a key that has none; several decide together
  bool peek = false;
  bool parts = false;  // whether `limits` is wanted
  bool keep = false;   // a limit that comes with it changes none that is known
  bool refuse = false;

  flint_limiter_result result{};
  std::vector<flint_limiter_limit_result>
      limits;  // what each limit of the key says, if it has some

  // Makes the call; any thread. A call that would have blocked has counted nothing.
  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets);

 private:
  Outcome Ask(flint_limiter* limiter, const std::string& asked, const Rate* carried,
              uint32_t flags);
  Outcome DecideSeveral(flint_limiter* limiter, uint32_t flags, CarriedSets* sets);
  // A peek at several limits of which nothing has been used.
  Outcome PeekFresh(flint_limiter* limiter, const SeveralRates& several, uint32_t flags);
};

// Independent decisions, one after the other. Those that were made before one would have blocked
// are not made again.
struct Decisions {
  std::vector<Decision> asked;
  std::vector<Outcome> outcomes;  // of each

  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets);

 private:
  // Where no limits come with them and nothing but the results is wanted: in one call.
  Outcome DecideMany(flint_limiter* limiter, uint32_t flags);
  void Explain(flint_limiter* limiter, uint32_t flags, size_t index, Outcome* outcome);
  bool IsPlain() const;

  std::vector<size_t> left_;  // indexes of what is not decided yet
  uint64_t ticket_ = 0;
  bool begun_ = false;
};

// Several keys decided together: all are counted, or none.
struct Together {
  struct Item {
    std::string key;
    uint64_t cost = 1;
    std::vector<Rate> rates;  // of a key that has none
  };

  std::vector<Item> items;
  std::vector<flint_limiter_result> results;  // of those that are told
  uint64_t denied = 0;

  bool allowed() const { return denied >= items.size(); }
  // The denied one is the last.
  size_t told() const { return allowed() ? items.size() : denied + 1; }

  Outcome Decide(flint_limiter* limiter, uint32_t flags, CarriedSets* sets);
};

flint_limiter_result NoResult();

}  // namespace flint::server
