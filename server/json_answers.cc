#include <string>
#include <string_view>
#include <vector>

#include "json_bodies.h"
#include "text.h"

namespace flint::server {
namespace {

void AppendField(std::string_view name, uint64_t value, std::string* to) {
  to->append(",\"").append(name).append("\":");
  AppendWhole(value, to);
}

void AppendField(std::string_view name, bool value, std::string* to) {
  to->append(",\"").append(name).append(value ? "\":true" : "\":false");
}

void AppendText(std::string_view name, std::string_view value, std::string* to) {
  to->append(",\"").append(name).append("\":");
  AppendQuoted(value, to);
}

void AppendAt(std::string_view name, int64_t at_ns, std::string* to) {
  to->append(",\"").append(name).append("\":\"");
  AppendTime(at_ns, to);
  to->push_back('"');
}

void AppendStamp(std::string_view name, int64_t at_ns, std::string* to) {
  if (at_ns == 0) {
    to->append(",\"").append(name).append("\":null");
  } else {
    AppendAt(name, at_ns, to);
  }
}

// A name, or null for none.
void AppendName(std::string_view name, std::string* to) {
  if (name.empty()) {
    to->append(",\"name\":null");
  } else {
    AppendText("name", name, to);
  }
}

std::string_view NameOf(const flint_limiter_limit_result& limit) {
  return {limit.name, limit.name_bytes};
}

// What one limit says, without the brace at its end.
void AppendPart(std::string_view key, std::string_view name, const flint_limiter_result& result,
                const flint_limiter_limit_result& part, std::string* to) {
  to->append("{\"algorithm\":\"").append(AlgorithmName(part.algorithm)).append("\"");
  AppendField("allowed", part.allowed != 0, to);
  AppendField("cost", result.cost, to);
  AppendText("key", key, to);
  AppendField("limit", part.limit, to);
  AppendName(name, to);
  AppendField("remaining", part.remaining, to);
  AppendField("reset_after_ns", part.reset_after_ns, to);
  AppendAt("reset_at", part.reset_at_ns, to);
  AppendField("retry_after_ns", part.retry_after_ns, to);
}

// A field that is left out where there is nothing to say.
void AppendNameIfAny(const flint_limiter_event& event, std::string* to) {
  if (event.name_bytes > 0) AppendText("name", {event.name, event.name_bytes}, to);
}

std::string ShownKey(const flint_limiter_event& event) {
  std::string key(event.key, event.key_bytes);
  if (event.kind == FLINT_LIMITER_KIND_TEMPLATE) key.push_back('*');
  return key;
}

void AppendItems(const flint_limiter_event* items, std::string* to) {
  to->append(",\"items\":[");
  for (uint32_t i = 0; i < items->item_count; i++) {
    to->append(i > 0 ? ",{\"cost\":" : "{\"cost\":").append(std::to_string(items[i].cost));
    AppendText("key", {items[i].key, items[i].key_bytes}, to);
    AppendNameIfAny(items[i], to);
    to->push_back('}');
  }
  to->push_back(']');
}

void AppendConfig(const flint_limiter_event& event, std::string* to) {
  to->append("{\"config\":{\"algorithm\":\"").append(AlgorithmName(event.algorithm)).append("\"");
  if (event.burst != event.rate) AppendField("burst", event.burst, to);
  AppendText("key", ShownKey(event), to);
  AppendNameIfAny(event, to);
  AppendField("per_millis", event.per_ns / 1'000'000, to);
  if (event.per_ns % 1'000'000 != 0) AppendField("per_ns", event.per_ns, to);
  AppendField("rate", event.rate, to);
  if ((event.flags & FLINT_LIMITER_STACK) != 0) AppendField("stack", true, to);
  to->append("},\"type\":\"LIMIT_CONFIGURED\"}");
}

}  // namespace

void AppendResult(std::string_view key, const flint_limiter_result& result, std::string* to) {
  constexpr size_t kUsualBytes = 192;
  to->reserve(to->size() + kUsualBytes + key.size());
  to->append(R"({"algorithm":")").append(AlgorithmName(result.algorithm));
  to->append(result.allowed != 0 ? R"(","allowed":true,"cost":)" : R"(","allowed":false,"cost":)");
  AppendWhole(result.cost, to);
  to->append(R"(,"key":)");
  AppendQuoted(key, to);
  to->append(R"(,"remaining":)");
  AppendWhole(result.remaining, to);
  to->append(R"(,"reset_at":")");
  AppendTime(result.reset_at_ns, to);
  to->append("\"}");
}

void AppendDetails(std::string_view key, const flint_limiter_result& result,
                   const std::vector<flint_limiter_limit_result>& limits, std::string* to) {
  flint_limiter_limit_result whole{};
  whole.allowed = result.allowed;
  whole.algorithm = result.algorithm;
  whole.limit = result.limit;
  whole.remaining = result.remaining;
  whole.reset_at_ns = result.reset_at_ns;
  whole.reset_after_ns = result.reset_after_ns;
  whole.retry_after_ns = result.retry_after_ns;
  const std::string_view name =
      result.limit_index < limits.size() ? NameOf(limits[result.limit_index]) : "";
  AppendPart(key, name, result, whole, to);
  to->append(",\"results\":[");
  for (size_t i = 0; i < limits.size(); i++) {
    if (i > 0) to->push_back(',');
    AppendPart(key, NameOf(limits[i]), result, limits[i], to);
    to->push_back('}');
  }
  to->append("]}");
}

void AppendStatus(std::string_view key, std::string_view name,
                  const flint_limiter_status_info& status, bool details, std::string* to) {
  to->append("{\"algorithm\":\"").append(AlgorithmName(status.algorithm)).append("\"");
  if (details) AppendField("burst", status.burst, to);
  AppendText("key", key, to);
  AppendStamp("last_allowed_at", status.last_allowed_at_ns, to);
  AppendStamp("last_denied_at", status.last_denied_at_ns, to);
  AppendStamp("last_reset_at", status.last_reset_at_ns, to);
  if (details) AppendName(name, to);
  AppendField("per_millis", status.per_ns / 1'000'000, to);
  if (details) AppendField("per_ns", status.per_ns, to);
  AppendField("rate", status.rate, to);
  AppendField("remaining", status.remaining, to);
  AppendAt("reset_at", status.reset_at_ns, to);
  if (details) {
    AppendField("stack", (status.flags & FLINT_LIMITER_STACK) != 0, to);
    AppendField("template", status.kind == FLINT_LIMITER_KIND_TEMPLATE, to);
  }
  AppendField("total_allowed", status.total_allowed, to);
  AppendField("total_allowed_cost", status.total_allowed_cost, to);
  AppendField("total_denied", status.total_denied, to);
  AppendField("total_denied_cost", status.total_denied_cost, to);
  to->push_back('}');
}

void AppendEvent(const flint_limiter_event* items, std::string* to) {
  const flint_limiter_event& event = *items;
  if (event.type == FLINT_LIMITER_EVENT_LIMIT_CONFIGURED) {
    AppendConfig(event, to);
    return;
  }
  to->append("{\"at\":\"").append(TimeText(event.at_ns)).append("\"");
  if (event.type == FLINT_LIMITER_EVENT_ALLOW_ALL) {
    AppendItems(items, to);
  } else {
    const bool decision =
        event.type == FLINT_LIMITER_EVENT_ALLOW || event.type == FLINT_LIMITER_EVENT_DENY;
    if (decision) AppendField("cost", event.cost, to);
    if (event.count > 1) AppendField("count", event.count, to);
    if (event.count > 1) AppendText("first_at", TimeText(event.first_at_ns), to);
    AppendText("key", ShownKey(event), to);
    AppendNameIfAny(event, to);
  }
  AppendText("type", EventTypeName(event.type), to);
  to->push_back('}');
}

}  // namespace flint::server
