#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/place.h"
#include "remote/resp.h"

namespace flint {

// What a limiter's calls are as commands of a Flint server, and what its replies mean. Pure.
//
// Each Read... function fails with kInternal where a reply is not what this version asks for.

// ---- Requests --------------------------------------------------------------------------------

// `peek`: FLINT.PEEK. `inline_config` may be null; `parts` asks for what each limit says.
RespRequest RequestOfCheck(const Place::Item& item, const Place::Flags& flags,
                           const LimitConfig* inline_config, bool peek, bool parts);
// FLINT.CHECKALL or FLINT.CHECKMANY.
RespRequest RequestOfItems(std::string_view command, std::span<const Place::Item> items);
RespRequest RequestOfLimits(bool if_absent);
void AddLimitWords(const Place::Limit& limit, RespRequest* request);
// FLINT.RESET or FLINT.REMOVE. `name` null: whatever it is.
RespRequest RequestOfChange(std::string_view command, LimitKind kind, std::string_view key,
                            const std::string_view* name);
RespRequest RequestOfStatus(LimitKind kind, std::string_view key, std::string_view name);
RespRequest RequestOfList(const Listing::Position* after, bool all_counters, size_t count);
RespRequest RequestOfTop(TopBy by, bool all_counters, size_t count);
RespRequest RequestOfHistory(const HistoryQuery& query, size_t count);

// ---- Replies ---------------------------------------------------------------------------------

// The status that an error stands for, or OK for any other reply.
Status StatusOfReply(const RespReply& reply);
// Where `decision->each` is set, it hears what each limit says.
Status ReadDecision(const RespReply& reply, Place::Decision* decision);
Status ReadDecisions(const RespReply& reply, size_t count, Place::Decision* decisions,
                     size_t* denied);
// Leaves out what has a code other than kOk already.
Status ReadAnswers(const RespReply& reply, std::span<Place::Answer> answers);
Status ReadLimitStatus(const RespReply& reply, LimitStatus* status);
Status ReadLimitStatuses(const RespReply& reply, std::vector<LimitStatus>* statuses);
Status ReadInfo(const RespReply& reply, Place::Info* info);
Status ReadHistoryPage(const RespReply& reply, HistoryPage* page);
// That of HELLO: whether a Flint server has answered.
Status ReadHello(const RespReply& reply);

}  // namespace flint
