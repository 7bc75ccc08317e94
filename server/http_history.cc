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

constexpr size_t kEvents = FLINT_LIMITER_MAX_ITEMS;

// What is asked for. Without a key, the events of all.
struct Asked {
  std::optional<Target> target;
  flint_limiter_history_query query{};
  uint64_t most = UINT64_MAX;
};

bool ReadAsked(const HttpRequest& request, Asked* asked) {
  bool wrong = false;
  const auto value = [&](std::string_view name) { return QueryValue(request.query, name, &wrong); };
  const auto whole = [&](std::string_view name, uint64_t otherwise) {
    const auto text = value(name);
    uint64_t number = otherwise;
    wrong |= text && !ReadWhole(*text, &number);
    return number;
  };
  const auto said = value("template");
  wrong |= said && *said != "true" && *said != "false";
  std::optional<bool> is_template;
  if (said) is_template = *said == "true";
  if (const auto key = value("key")) asked->target = ReadTarget(*key, is_template);
  flint_limiter_history_query& query = asked->query;
  query.struct_size = sizeof query;
  const uint64_t since_ns = whole("since_ns", 0);
  const uint64_t until_ns = whole("until_ns", 0);
  query.since_ns = static_cast<int64_t>(since_ns);
  query.until_ns = static_cast<int64_t>(until_ns);
  query.flags = value("newest_first") == "true" ? FLINT_LIMITER_NEWEST_FIRST : 0;
  asked->most = whole("limit", UINT64_MAX);
  return !wrong && since_ns <= INT64_MAX && until_ns <= INT64_MAX;
}

class History : public HttpPages {
 public:
  History(const Exchange& exchange, Asked asked)
      : HttpPages(exchange), asked_(std::move(asked)), left_(asked_.most) {}

 private:
  Outcome Read(bool* last) override {
    if (left_ == 0) {
      *last = true;
      return {};
    }
    flint_limiter_event none{};
    none.struct_size = sizeof none;
    std::vector<flint_limiter_event> events(kEvents, none);
    std::string text(size_t{4} * FLINT_LIMITER_MIN_TEXT_BYTES, '\0');
    flint_limiter_error error = NoError();
    uint64_t count = 0;
    flint_limiter_history_query& query = asked_.query;
    const std::optional<Target>& target = asked_.target;
    const bool is_template = target && target->is_template;
    query.kind = is_template ? FLINT_LIMITER_KIND_TEMPLATE : FLINT_LIMITER_KIND_EXACT;
    const int32_t code = flint_limiter_history(
        exchange()->limiter(), target ? target->key.data() : nullptr,
        target ? target->key.size() : 0, &query, events.data(), events.size(), sizeof events[0],
        text.data(), text.size(), &count, &query.cursor, &error);
    if (code != FLINT_LIMITER_OK) return OutcomeOf(code, error);
    if (count == 0 && !any_found_ && target && target->or_literal) {
      // No template, then; perhaps a limit of exactly that name.
      asked_.target = Target{target->key + "*", "", true, false, false};
      query.cursor = 0;
      return Read(last);
    }
    any_found_ |= count > 0;
    for (uint64_t i = 0; i < count && left_ > 0; i += events[i].item_count) {
      AppendEvent(&events[i], Add());
      left_--;
    }
    *last = count == 0 || left_ == 0;
    return {};
  }

  Asked asked_;
  uint64_t left_;
  bool any_found_ = false;
};

}  // namespace

void AnswerHistory(const Exchange& exchange) {
  Asked asked;
  if (!ReadAsked(exchange->request(), &asked)) {
    exchange->Error(400, "since_ns, until_ns and limit must be whole numbers", "INVALID_ARGUMENT");
    return;
  }
  std::make_shared<History>(exchange, std::move(asked))->ReadPage();
}

}  // namespace flint::server
