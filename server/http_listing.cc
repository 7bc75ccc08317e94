#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flint_limiter.h"
#include "http_exchange.h"
#include "http_handlers.h"
#include "http_pages.h"
#include "json_bodies.h"
#include "text.h"

namespace flint::server {
namespace {

constexpr size_t kEntries = 256;
constexpr uint64_t kMostOfTop = 1'000;

std::vector<flint_limiter_status_info> Entries(size_t count) {
  flint_limiter_status_info none{};
  none.struct_size = sizeof none;
  return std::vector<flint_limiter_status_info>(count, none);
}

std::string ShownKey(const flint_limiter_status_info& one) {
  std::string key(one.key, one.key_bytes);
  if (one.kind == FLINT_LIMITER_KIND_TEMPLATE) key.push_back('*');
  return key;
}

class Listing : public HttpPages {
 public:
  Listing(const Exchange& asked, std::optional<std::string> key)
      : HttpPages(asked),
        cursor_(FLINT_LIMITER_MAX_CURSOR_BYTES, '\0'),
        key_(std::move(key)),
        counters_(asked->Asks("counters")),
        inline_(!asked->Asks("inline", "false")),
        details_(asked->Asks("details")) {}

 private:
  Outcome Read(bool* last) override {
    auto entries = Entries(kEntries);
    std::string text(FLINT_LIMITER_MIN_TEXT_BYTES + FLINT_LIMITER_MAX_NAME_BYTES, '\0');
    flint_limiter_error error = NoError();
    uint64_t count = 0;
    const uint32_t flags = counters_ ? FLINT_LIMITER_ALL_COUNTERS : 0;
    const int32_t code =
        flint_limiter_list_page(exchange()->limiter(), cursor_.data(), cursor_bytes_, flags,
                                entries.data(), entries.size(), sizeof entries[0], text.data(),
                                text.size(), &count, cursor_.data(), &cursor_bytes_, &error);
    *last = count == 0;
    for (uint64_t i = 0; i < count; i++) {
      const flint_limiter_status_info& one = entries[i];
      if (!inline_ && one.kind == FLINT_LIMITER_KIND_INLINE) continue;
      const std::string key = ShownKey(one);
      if (key_ && *key_ != key) continue;
      AppendStatus(key, {one.name, one.name_bytes}, one, details_, Add());
    }
    return OutcomeOf(code, error);
  }

  std::string cursor_;
  uint64_t cursor_bytes_ = 0;
  const std::optional<std::string> key_;  // only its limits
  const bool counters_;
  const bool inline_;
  const bool details_;
};

struct Top {
  uint32_t by = FLINT_LIMITER_BY_DENIED;
  uint64_t limit = 20;
  bool details = false;
  std::string answer;

  Outcome Read(flint_limiter* limiter) {
    auto entries = Entries(limit);
    // Room for each key, however long.
    std::string text(FLINT_LIMITER_MIN_TEXT_BYTES * (limit + 1), '\0');
    flint_limiter_error error = NoError();
    uint64_t count = 0;
    const int32_t code =
        flint_limiter_top(limiter, by, FLINT_LIMITER_ALL_COUNTERS, entries.data(), entries.size(),
                          sizeof entries[0], text.data(), text.size(), &count, &error);
    answer.assign(1, '[');
    for (uint64_t i = 0; i < count; i++) {
      if (i > 0) answer.push_back(',');
      const flint_limiter_status_info& one = entries[i];
      AppendStatus(ShownKey(one), {one.name, one.name_bytes}, one, details, &answer);
    }
    answer.push_back(']');
    return OutcomeOf(code, error);
  }
};

bool ReadTop(const HttpRequest& request, Top* top) {
  bool wrong = false;
  const std::string by = QueryValue(request.query, "by", &wrong).value_or("denied");
  constexpr std::array kTotals = {"denied", "allowed", "denied_cost", "allowed_cost"};
  const auto* const found = std::find(kTotals.begin(), kTotals.end(), by);
  top->by = static_cast<uint32_t>(found - kTotals.begin());
  const std::string limit = QueryValue(request.query, "limit", &wrong).value_or("20");
  return !wrong && found != kTotals.end() && ReadWhole(limit, &top->limit) &&
         top->limit <= kMostOfTop;
}

}  // namespace

void AnswerListing(const Exchange& exchange) {
  bool wrong = false;
  auto key = QueryValue(exchange->request().query, "key", &wrong);
  if (wrong) {
    exchange->Error(400, "the query must be percent-encoded UTF-8", "INVALID_ARGUMENT");
    return;
  }
  std::make_shared<Listing>(exchange, std::move(key))->ReadPage();
}

void AnswerTop(const Exchange& exchange) {
  const auto top = std::make_shared<Top>();
  if (!ReadTop(exchange->request(), top.get())) {
    exchange->Error(400,
                    "by must be denied, allowed, denied_cost or allowed_cost, and limit a whole "
                    "number up to 1000",
                    "INVALID_ARGUMENT");
    return;
  }
  top->details = exchange->Asks("details");
  if (top->limit == 0) {
    exchange->Json("[]");
    return;
  }
  exchange->RunAside([top, limiter = exchange->limiter()](uint32_t) { return top->Read(limiter); },
                     [top, exchange](const Outcome& outcome) {
                       if (outcome.ok()) {
                         exchange->Json(top->answer);
                       } else {
                         exchange->Fail(outcome);
                       }
                     });
}

}  // namespace flint::server
