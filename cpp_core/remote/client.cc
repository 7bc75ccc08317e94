#include "remote/client.h"

#include <algorithm>
#include <utility>

#include "engine/engine_internal.h"
#include "engine/key.h"

namespace flint {
namespace {

// What a server takes and gives at most; docs/server.md has them.
constexpr size_t kMostRequestBytes = size_t{152} << 10;
constexpr size_t kMostLimits = 128;
constexpr size_t kBytesAround = 256;  // the words of a limit, or of a check, behind its key
constexpr size_t kMostEntries = 1000;
constexpr size_t kMostHistoryBytes = size_t{256} << 10;
constexpr size_t kFewestTextBytes = size_t{64} << 10;

// Of replies with as many keys as a page has; each may be as long as any.
constexpr RespReader::Bounds kLongReply{size_t{128} << 20, size_t{256} << 10, 8};

// One that no server could take would be answered by the connection's end.
Status CheckSize(const RespRequest& request) {
  if (request.size() <= kMostRequestBytes) return Status();
  return Status(Code::kUnsupported,
                "a server takes 155,648 bytes of keys with one call, and these are " +
                    std::to_string(request.size()) + "; make several calls");
}

Status CheckLimit(const Place::Limit& limit) {
  FLINT_RETURN_IF_ERROR(limit.kind == LimitKind::kTemplate ? CheckPrefix(limit.key)
                                                           : CheckKey(limit.key));
  return CheckName(limit.name);
}

}  // namespace

Client::Client(Address address, TlsContext tls, Options options)
    : connections_(std::move(address), std::move(tls), std::move(options.token), options.timeout) {}

Status Client::Connect(std::string_view url, Options options, std::unique_ptr<Client>* client) {
  Address address;
  FLINT_RETURN_IF_ERROR(ReadAddress(url, &address));
  TlsContext tls;
  if (address.tls) {
    FLINT_RETURN_IF_ERROR(LoadTls(options.tls, &tls));
  } else if (options.tls != TlsFiles()) {
    return Status(Code::kInvalidArgument,
                  "options.tls_... are for flints://, and " + address.Shown() + " has no TLS");
  }
  const bool lazy = options.lazy;
  std::unique_ptr<Client> made(new Client(std::move(address), std::move(tls), std::move(options)));
  if (!lazy) FLINT_RETURN_IF_ERROR(made->connections_.Reach());
  *client = std::move(made);
  return Status();
}

Status Client::Ask(const RespRequest& request, const Flags& flags, Repeatable repeatable,
                   RespReply* reply) {
  if (flags.no_wait) {
    FLINT_RETURN_IF_ERROR(connections_.CheckOpen());
    return Status::WouldBlock();
  }
  FLINT_RETURN_IF_ERROR(CheckSize(request));
  FLINT_RETURN_IF_ERROR(
      connections_.Ask(request, kLongReply, repeatable == Repeatable::kYes, reply));
  return StatusOfReply(*reply);
}

Status Client::AskFor(const RespRequest& request, const Flags& flags, Repeatable repeatable) {
  RespReply reply;
  return Ask(request, flags, repeatable, &reply);
}

// ---- Limits ----------------------------------------------------------------------------------

// In as many requests as it takes. What one limit is refused for that can be seen here is seen
// before the first.
Status Client::ConfigureMany(const std::vector<Limit>& limits, const Flags& flags,
                             uint64_t* ticket) {
  *ticket = 0;
  for (const Limit& limit : limits) FLINT_RETURN_IF_ERROR(CheckLimit(limit));
  if (limits.empty()) return connections_.CheckOpen();
  for (size_t next = 0; next < limits.size();) {
    RespRequest request = RequestOfLimits(flags.if_absent);
    for (const size_t first = next; next < limits.size() && next - first < kMostLimits; ++next) {
      const Limit& limit = limits[next];
      const size_t more = limit.key.size() + limit.name.size() + kBytesAround;
      if (next > first && request.size() + more > kMostRequestBytes) break;
      AddLimitWords(limit, &request);
    }
    FLINT_RETURN_IF_ERROR(AskFor(request, flags, Repeatable::kYes));
  }
  return Status();
}

Status Client::Change(const RespRequest& request, const Flags& flags, uint64_t* ticket) {
  *ticket = 0;
  return AskFor(request, flags, Repeatable::kNo);
}

Status Client::Remove(LimitKind kind, std::string_view key, const std::string_view* name,
                      const Flags& flags, uint64_t* ticket) {
  return Change(RequestOfChange("FLINT.REMOVE", kind, key, name), flags, ticket);
}

Status Client::Reset(LimitKind kind, std::string_view key, const std::string_view* name,
                     const Flags& flags, uint64_t* ticket) {
  return Change(RequestOfChange("FLINT.RESET", kind, key, name), flags, ticket);
}

// ---- Decisions -------------------------------------------------------------------------------

Status Client::Decide(const RespRequest& request, const Flags& flags, bool peek,
                      Decision* decision) {
  RespReply reply;
  FLINT_RETURN_IF_ERROR(Ask(request, flags, peek ? Repeatable::kYes : Repeatable::kNo, &reply));
  return ReadDecision(reply, decision);
}

Status Client::CheckInFull(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                           Decision* decision) {
  const bool parts = decision->each != nullptr;
  return Decide(RequestOfCheck(item, flags, inline_config, false, parts), flags, false, decision);
}

Status Client::Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                    Decision* decision) {
  const bool parts = decision->each != nullptr;
  return Decide(RequestOfCheck(item, flags, inline_config, true, parts), flags, true, decision);
}

Status Client::CheckAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                        size_t* denied) {
  FLINT_RETURN_IF_ERROR(connections_.CheckOpen());
  FLINT_RETURN_IF_ERROR(CheckTogetherBounds(items));
  RespReply reply;
  FLINT_RETURN_IF_ERROR(
      Ask(RequestOfItems("FLINT.CHECKALL", items), flags, Repeatable::kNo, &reply));
  return ReadDecisions(reply, items.size(), decisions, denied);
}

// As many at a time as one request holds. When one fails, those behind it fail alike.
Status Client::CheckMany(std::span<const Item> items, const Flags& flags,
                         std::span<Answer> answers) {
  FLINT_RETURN_IF_ERROR(connections_.CheckOpen());
  size_t next = 0;
  Status status;
  while (next < items.size()) {
    const size_t first = next;
    size_t bytes = 0;
    std::vector<Item> some;
    for (; next < items.size(); ++next) {
      if (answers[next].code != Code::kOk) continue;
      bytes += items[next].key.size() + kBytesAround;
      if (!some.empty() && bytes > kMostRequestBytes) break;
      some.push_back(items[next]);
    }
    if (some.empty()) break;
    const std::span<Answer> theirs = answers.subspan(first, next - first);
    RespReply reply;
    if (status.ok()) {
      status = Ask(RequestOfItems("FLINT.CHECKMANY", some), flags, Repeatable::kNo, &reply);
      if (status.ok()) status = ReadAnswers(reply, theirs);
    }
    if (status.ok()) continue;
    for (Answer& answer : theirs) {
      if (answer.code == Code::kOk) answer.code = status.code();
    }
  }
  return status.code() == Code::kClosed ? status : Status();
}

// ---- Reading ---------------------------------------------------------------------------------

Status Client::StatusOf(LimitKind kind, std::string_view key, std::string_view name,
                        LimitStatus* status) {
  RespReply reply;
  FLINT_RETURN_IF_ERROR(Ask(RequestOfStatus(kind, key, name), {}, Repeatable::kYes, &reply));
  if (reply.type == RespReply::Type::kNull) return NotConfigured(kind, key, name);
  return ReadLimitStatus(reply, status);
}

Status Client::ListBehind(const Listing::Position* after, const Listing::Wanted& wanted,
                          std::vector<LimitStatus>* page) {
  page->clear();
  size_t text_bytes = 0;
  LimitStatus last;
  Listing::Position behind = after == nullptr ? Listing::Position{} : *after;
  const Listing::Position* from = after;
  while (page->size() < wanted.capacity) {
    const size_t count = std::min(wanted.capacity - page->size(), kMostEntries);
    RespReply reply;
    FLINT_RETURN_IF_ERROR(
        Ask(RequestOfList(from, wanted.all_counters, count), {}, Repeatable::kYes, &reply));
    std::vector<LimitStatus> found;
    if (reply.type != RespReply::Type::kArray || reply.items.size() != 2) {
      return Status(Code::kInternal, "the server's answer is no page of limits");
    }
    FLINT_RETURN_IF_ERROR(ReadLimitStatuses(reply.items[1], &found));
    if (found.empty()) return Status();
    for (LimitStatus& one : found) {
      last = one;
      if (wanted.unnamed_only && !one.name.empty()) continue;
      text_bytes += one.key.size() + one.name.size();
      if (text_bytes > wanted.key_bytes) return Status();
      page->push_back(std::move(one));
      if (page->size() == wanted.capacity) return Status();
    }
    behind = {last.key, last.kind, last.name};
    from = &behind;
  }
  return Status();
}

Status Client::Top(TopBy by, const Flags& flags, size_t capacity, std::vector<LimitStatus>* top) {
  top->clear();
  if (capacity == 0) return connections_.CheckOpen();
  const size_t count = std::min(capacity, kMostEntries);
  RespReply reply;
  FLINT_RETURN_IF_ERROR(
      Ask(RequestOfTop(by, flags.all_counters, count), {}, Repeatable::kYes, &reply));
  return ReadLimitStatuses(reply, top);
}

Status Client::GetInfo(Info* info) {
  RespReply reply;
  FLINT_RETURN_IF_ERROR(Ask({"FLINT.INFO"}, {}, Repeatable::kYes, &reply));
  return ReadInfo(reply, info);
}

Status Client::History(const HistoryQuery& query, HistoryPage* page) {
  HistoryQuery asked = query;
  asked.text_bytes = std::clamp(query.text_bytes, kFewestTextBytes, kMostHistoryBytes);
  // Without a count it is 1,024 entries, which any event fits.
  constexpr size_t kWithoutCount = 1024;
  const size_t count = query.capacity >= kWithoutCount ? 0 : std::min(query.capacity, kMostEntries);
  if (query.capacity == 0) return Status(Code::kInvalidArgument, "capacity is 0");
  RespReply reply;
  FLINT_RETURN_IF_ERROR(Ask(RequestOfHistory(asked, count), {}, Repeatable::kYes, &reply));
  return ReadHistoryPage(reply, page);
}

// ---- Durability ------------------------------------------------------------------------------

Status Client::Flush() { return AskFor({"FLINT.FLUSH"}, {}, Repeatable::kYes); }

Status Client::Wait(uint64_t ticket, uint64_t timeout_ns) {
  static_cast<void>(timeout_ns);
  FLINT_RETURN_IF_ERROR(connections_.CheckOpen());
  if (ticket == 0) return Status();
  return Status(Code::kInvalidArgument, "ticket is " + std::to_string(ticket) +
                                            "; of a server there are none but 0, since what it "
                                            "answers is as durable as it promises");
}

Status Client::Durable(uint64_t* ticket) {
  FLINT_RETURN_IF_ERROR(connections_.CheckOpen());
  *ticket = 0;
  return Status();
}

Status Client::Watch(int* fd) {
  static_cast<void>(fd);
  FLINT_RETURN_IF_ERROR(connections_.CheckOpen());
  return Status(Code::kUnsupported,
                "there is nothing to watch: what a server answers is as durable as it promises");
}

Status Client::Unwatch(int fd) {
  static_cast<void>(fd);  // Watch has given none out
  return connections_.CheckOpen();
}

Status Client::Compact(const Flags& flags) {
  RespRequest request{"FLINT.COMPACT"};
  if (flags.no_wait) request.Word("NOWAIT");
  return AskFor(request, {}, Repeatable::kYes);
}

Status Client::Refresh() {
  FLINT_RETURN_IF_ERROR(connections_.CheckOpen());
  return Status(Code::kInvalidArgument, "only a limiter opened for reading is refreshed");
}

Status Client::Shutdown() {
  connections_.Close();
  return Status();
}

}  // namespace flint
