// The bodies of requests: each is read or refused, whoever reads it. The first byte, a digit, says
// who does.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "json_bodies.h"
#include "text.h"

namespace flint::server {
namespace {

const RateNames kNames = {{"strict", {Rate{5, 60'000'000'000}, Rate{9, 3'600'000'000'000}}}};

// What one reader makes of a text.
bool Read(unsigned which, const std::string& text, HttpRefusal* refusal) {
  switch ((which - '0') % 8) {
    case 0: {
      LimitBody body;
      return ReadLimitBody(text, kNames, &body, refusal);
    }
    case 1: {
      CheckBody body;
      return ReadCheckBody(text, kNames, &body, refusal);
    }
    case 2: {
      std::vector<Together::Item> items;
      return ReadItemsBody(text, kNames, &items, refusal);
    }
    case 3: {
      std::vector<LimitBody> limits;
      return ReadLimitsBody(text, kNames, &limits, refusal);
    }
    case 4: {
      Target target;
      return ReadTargetBody(text, &target, refusal);
    }
    case 5: {
      std::vector<CheckBody> checks;
      return ReadChecksBody(text, kNames, &checks, refusal);
    }
    case 6: {
      Decision decision;
      return ReadThrottleBody(text, &decision, refusal);
    }
    default: {
      std::vector<Decision> decisions;
      return ReadEnvoyBody(text, &decisions, refusal);
    }
  }
}

}  // namespace
}  // namespace flint::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  flint::server::HttpRefusal refusal;
  const bool read = flint::server::Read(data[0], text, &refusal);
  if (read != (refusal.status == 0)) std::abort();
  // What is said of it is text, whatever it was.
  if (!flint::server::IsUtf8(refusal.body) || !flint::server::IsUtf8(flint::server::Quoted(text)))
    std::abort();
  return 0;
}
