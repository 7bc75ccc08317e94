#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/place.h"
#include "remote/connections.h"
#include "remote/protocol.h"

namespace flint {

// A limiter that a Flint server keeps, asked by the Redis protocol. What is answered is as durable
// as the server promises, so there is no ticket to wait for: it is always 0. A call that must not
// wait cannot be made, since each waits for the server. A forked child has connections of its own.
class Client final : public Place {
 public:
  struct Options {
    std::string token;
    TlsFiles tls;
    std::chrono::nanoseconds timeout{std::chrono::seconds(10)};  // of each call
    bool lazy = false;  // whether the server is looked for at the first call only
  };

  static Status Connect(std::string_view url, Options options, std::unique_ptr<Client>* client);

  Status ConfigureMany(const std::vector<Limit>& limits, const Flags& flags,
                       uint64_t* ticket) override;
  Status Remove(LimitKind kind, std::string_view key, const std::string_view* name,
                const Flags& flags, uint64_t* ticket) override;
  Status Reset(LimitKind kind, std::string_view key, const std::string_view* name,
               const Flags& flags, uint64_t* ticket) override;
  Status CheckInFull(const Item& item, const Flags& flags, const LimitConfig* inline_config,
                     Decision* decision) override;
  Status Peek(const Item& item, const Flags& flags, const LimitConfig* inline_config,
              Decision* decision) override;
  Status CheckAll(std::span<const Item> items, const Flags& flags, Decision* decisions,
                  size_t* denied) override;
  Status CheckMany(std::span<const Item> items, const Flags& flags,
                   std::span<Answer> answers) override;
  Status StatusOf(LimitKind kind, std::string_view key, std::string_view name,
                  LimitStatus* status) override;
  Status ListBehind(const Listing::Position* after, const Listing::Wanted& wanted,
                    std::vector<LimitStatus>* page) override;
  Status Top(TopBy by, const Flags& flags, size_t capacity, std::vector<LimitStatus>* top) override;
  Status GetInfo(Info* info) override;
  Status History(const HistoryQuery& query, HistoryPage* page) override;
  Status Flush() override;
  Status Wait(uint64_t ticket, uint64_t timeout_ns) override;
  Status Durable(uint64_t* ticket) override;
  Status Watch(int* fd) override;
  Status Unwatch(int fd) override;
  Status Compact(const Flags& flags) override;
  Status Refresh() override;
  Status Shutdown() override;

 private:
  Client(Address address, TlsContext tls, Options options);

  enum class Repeatable { kNo, kYes };
  // The reply to a request, or the status of an error. For a call that may wait.
  Status Ask(const RespRequest& request, const Flags& flags, Repeatable repeatable,
             RespReply* reply);
  Status AskFor(const RespRequest& request, const Flags& flags, Repeatable repeatable);
  Status Decide(const RespRequest& request, const Flags& flags, bool peek, Decision* decision);
  Status Change(const RespRequest& request, const Flags& flags, uint64_t* ticket);

  Connections connections_;
};

}  // namespace flint
